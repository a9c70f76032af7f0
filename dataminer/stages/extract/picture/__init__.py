"""From a decoded frame to the picture that a player would show."""
