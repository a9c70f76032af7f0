"""Requests to other hosts: which addresses are allowed, how often, and through yt-dlp."""
