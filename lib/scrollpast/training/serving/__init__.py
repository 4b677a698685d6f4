"""Embeddings of users where ads are served: PyTorch and safetensors, and nothing of TorchRec."""
