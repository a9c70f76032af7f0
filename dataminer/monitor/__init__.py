"""Views of the database for people and programs."""
