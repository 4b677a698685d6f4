"""Outcome rules as kernels over the rows of one bucket; no Spark."""
