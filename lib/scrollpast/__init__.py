"""Hard negatives for ads retrieval: mined from impression logs, trained on, and measured."""

__version__ = "0.1.0"
