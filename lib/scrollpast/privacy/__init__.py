"""What of a user leaves the jobs, and how a user is forgotten: no Spark, no PyTorch."""
