"""What a scheduler asks before it starts a job: is the log there, what became of a day, what is trained on.

Needs neither Spark nor PyTorch, and knows no scheduler: the DAG in jobs/dags puts it to use.
"""
