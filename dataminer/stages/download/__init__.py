"""Download: from a link or a path to one video file."""
