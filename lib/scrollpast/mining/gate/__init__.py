"""The gate between a mined day and its publication: day metrics, trailing days, bands, held days."""
