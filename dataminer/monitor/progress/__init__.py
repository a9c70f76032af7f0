"""How much of a run is done, and how long the rest takes."""
