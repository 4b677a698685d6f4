"""Embeddings of users for serving: needs PyTorch and safetensors, not TorchRec."""
