"""The rate limit that all nodes share."""
