"""Baselines: rankings of ads that need no training, for the verdict on a model."""
