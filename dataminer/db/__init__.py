"""The database: its server, its tables, and connections to it."""
