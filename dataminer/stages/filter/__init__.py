"""Filter: which frames are good enough."""
