"""Revocation of published negatives that a later engagement contradicts."""
