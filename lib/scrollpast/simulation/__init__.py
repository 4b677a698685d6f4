"""Logs with a known truth: what to measure the miner against. Nothing else in the package imports this."""
