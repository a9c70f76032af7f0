"""The jobs of the stages: each from the settings to a recorded result."""
