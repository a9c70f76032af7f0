"""What a job does for one video or project: claim, work, result."""
