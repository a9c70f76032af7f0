"""Tasks: the work of a stage on one row, and running it under a claim."""
