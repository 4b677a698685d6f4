"""Public logs brought into the shape of the input contract. What a log does not have stays null."""
