"""What each result is made from: fingerprints, and the recipes of frames."""
