"""A check of the project's English: ``python -m tools.prose``, also ``make lint-prose``."""
