"""From manifests to batches of anchors: planned in integers, decoded and expanded in compiled loops."""
