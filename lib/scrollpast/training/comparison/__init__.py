"""Comparison of negatives: arms that differ in their negatives only, trained and evaluated on the same days."""
