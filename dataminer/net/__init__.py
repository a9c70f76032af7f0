"""Requests to other hosts: which addresses are allowed, rate limits, and yt-dlp."""
