"""Embed: the output of models on candidate frames."""
