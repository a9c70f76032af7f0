"""Claims, heartbeats, results: the only code that changes a status."""
