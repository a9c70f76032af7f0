"""Detect: objects on the unique frames."""
