"""What becomes of claims whose jobs have died."""
