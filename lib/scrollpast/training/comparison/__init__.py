"""Which negatives help: arms that differ in their negatives alone, trained, evaluated and held against one of them."""
