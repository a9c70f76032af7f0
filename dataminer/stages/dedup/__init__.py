"""Dedup: one frame of each group of near-duplicates."""
