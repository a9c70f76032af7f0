"""What lies in a store: its folders, its JSON files, and what is thrown away."""
