"""Programs for people who work on dataminer; nothing of it is installed."""
