"""What each result was made from."""
