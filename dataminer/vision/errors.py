"""Exceptions of model libraries, as text for our own errors."""

from __future__ import annotations

_LONGEST = 200  # characters


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text; its type if it has none."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:_LONGEST]
