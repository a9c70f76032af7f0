"""Rows that agree with files again."""
