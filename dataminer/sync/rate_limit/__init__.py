"""The rate limits that all nodes share."""
