"""Programs for people who work on dataminer, and how its packages are installed and updated."""
