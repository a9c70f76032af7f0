"""Deletion of projects, videos and orphans."""
