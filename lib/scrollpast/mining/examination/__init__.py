"""Probability that a position is examined: estimates from a log, and the table that mining weights by."""
