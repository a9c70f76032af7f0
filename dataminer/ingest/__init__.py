"""From what a user gives (searches, links, link files, paths) to sources of video."""
