"""Answers for a scheduler before it starts a job: log complete, day published, days to train on.

Needs neither Spark nor PyTorch, and knows no scheduler: the DAG in jobs/dags puts it to use.
"""
