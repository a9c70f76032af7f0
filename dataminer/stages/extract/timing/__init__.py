"""When frames are shown: one line of ascending times, and the gaps in it."""
