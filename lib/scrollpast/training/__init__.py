"""The two-tower trainer: PyTorch and TorchRec; reads what mining published, and never imports Spark."""
