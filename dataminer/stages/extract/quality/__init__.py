"""Metrics and hashes of a frame."""
