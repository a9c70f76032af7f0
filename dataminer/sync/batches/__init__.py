"""Jobs that work on many videos."""
