"""Who works on which row: claims, heartbeats, results, and the counters of projects."""
