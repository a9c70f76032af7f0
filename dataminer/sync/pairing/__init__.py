"""Which store belongs to which database."""
