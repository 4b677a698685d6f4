"""Two towers: tables and layers, lookup keys of a batch, and sharding of tables over the ranks."""
