"""Extract: from a video file to its frames."""
