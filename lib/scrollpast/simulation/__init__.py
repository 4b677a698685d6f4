"""Simulated logs with a known truth, for measurements of the miner. No other package imports this package."""
