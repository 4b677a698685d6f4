"""TFRecord shards of one day: bytes, files, the manifest that publishes them, and the reader."""
