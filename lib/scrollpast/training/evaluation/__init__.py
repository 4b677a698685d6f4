"""Evaluation of towers on days later than their training days."""
