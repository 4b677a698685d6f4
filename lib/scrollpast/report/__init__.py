"""One HTML file that says what became of a day's impressions, and what training on them gave."""
