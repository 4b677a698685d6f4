"""The two towers: their tables and layers, what is looked up for a batch, and how tables lie over the ranks."""
