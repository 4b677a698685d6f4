"""The mining job: impressions and engagements in, a published day of hard negatives out (Spark)."""
