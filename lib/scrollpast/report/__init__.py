"""HTML report of a day: outcomes of its impressions, and results of training on them."""
