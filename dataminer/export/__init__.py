"""Exports of a project's dataset, in the formats that people train with."""
