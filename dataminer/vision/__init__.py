"""Models: their weights, how they are loaded, and the boxes that they find."""
