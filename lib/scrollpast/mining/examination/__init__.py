"""How probable it is that a position is looked at: estimates from a log, and the table that mining weights by."""
