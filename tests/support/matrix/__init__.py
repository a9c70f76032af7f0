"""Videos of every kind, drawn and encoded, and what is right for each."""
