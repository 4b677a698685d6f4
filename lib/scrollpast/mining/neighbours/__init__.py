"""Neighbours: from published days and exported towers to days whose records hold near ads as well."""
