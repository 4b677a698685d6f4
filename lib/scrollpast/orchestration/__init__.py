"""State for a scheduler before it starts a job: log complete, day published, days to train on.

Needs no Spark, PyTorch or scheduler: the DAG in jobs/dags calls this package.
"""
