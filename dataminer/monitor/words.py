"""Durations and sizes as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration in at most its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Return a number of bytes in a unit with which it has three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if round(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(classes: dict[str, int]) -> str:
    """Return the number per class as text."""
    return ", ".join(f"{count:,} {name or 'unknown'}" for name, count in classes.items())


def videos(count: int) -> str:
    """Return a number of videos as text."""
    return "1 video" if count == 1 else f"{count:,} videos"
