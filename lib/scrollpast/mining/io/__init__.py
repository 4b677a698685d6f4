"""Input tables: sources, their contracts, the partitions of a day, and what looks implausible in them."""
