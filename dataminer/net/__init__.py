"""Requests to other hosts: where they may lead, how often, and through yt-dlp."""
