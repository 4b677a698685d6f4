"""Nearest neighbours of embeddings, by FAISS."""
