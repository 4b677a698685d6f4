"""The training run: steps, checkpoints, resumption, metrics, and the processes that train together."""
