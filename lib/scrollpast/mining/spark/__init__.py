"""The Spark session, functions over Arrow batches, packed columns for the shuffle, progress and run metrics."""
