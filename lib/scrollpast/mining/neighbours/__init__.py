"""Nearest-neighbour negatives: published days and exported towers in, days whose records also hold near ads out."""
