"""The contents of a store: its folders, its JSON files, and their removal."""
