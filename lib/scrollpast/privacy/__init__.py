"""Keyed user ids, the suppression list, forgetting and retention: no Spark, no PyTorch."""
