"""Vocabularies of ads and features, built from published days."""
