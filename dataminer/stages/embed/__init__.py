"""Embed: what models see on candidate frames."""
