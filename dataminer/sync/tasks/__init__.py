"""One stage's work on one row: what is to be done, and what does it under a claim."""
