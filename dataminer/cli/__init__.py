"""The ``dataminer`` command."""
