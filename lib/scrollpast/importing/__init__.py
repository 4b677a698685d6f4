"""Import of public logs into the tables of the input contract. Columns missing from a log stay null."""
