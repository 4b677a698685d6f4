"""What the positive is contrasted with: candidates from four sources, what of them is masked, and what Q is."""
