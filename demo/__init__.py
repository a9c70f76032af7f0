"""A small dataset mined end to end: drawn videos, a tiny detector, and a score."""
