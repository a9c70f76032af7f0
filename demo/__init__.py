"""A small dataset mined end to end: drawn videos, a detector of our own, and a score."""
