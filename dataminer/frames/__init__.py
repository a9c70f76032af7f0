"""Frames: their table, their images, their embeddings and the boxes found on them."""
