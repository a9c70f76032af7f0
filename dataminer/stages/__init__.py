"""The stages: files in, files out. They know settings, and nothing of database or workflow."""
