"""Claims, heartbeats, results: the only code that moves a status."""
