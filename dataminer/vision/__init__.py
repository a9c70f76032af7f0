"""Models: where their weights are, and how they are loaded."""
