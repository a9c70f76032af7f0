"""Input: from searches, links, link files and paths to sources of video."""
