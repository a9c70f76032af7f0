"""Repair: rows that agree with the files again."""
