"""Who works on what: claims, heartbeats, and what becomes of the dead."""
