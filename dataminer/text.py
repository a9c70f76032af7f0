"""Make untrusted text safe to show in a terminal, a log or a page."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import IO

# printable but invisible: Unicode's Default_Ignorable_Code_Point, and the Braille blank
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# joiners and variation selectors: emoji and many scripts need them after other characters
_JOINING = frozenset(
    "\u200c\u200d\u180b\u180c\u180d\u180f"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_MOST_JOINING = 2  # in sequence, as in the emoji "heart on fire"
_MOST_MARKS = 8  # per letter; Tibetan and pointed Hebrew have about five


def inert(text: str) -> str:
    r"""Escape each character that a terminal or a browser would interpret or hide: ``\x1b``."""
    return "".join(kept or ascii(c)[1:-1] for c, kept in _judged(text))


def inert_lines(text: str) -> str:
    """Do what :func:`inert` does, but keep line ends and tabs."""
    return "".join(kept or ascii(c)[1:-1] for c, kept in _judged(text, "\n\t"))


def is_inert(text: str) -> bool:
    """Return whether :func:`inert` leaves a text unchanged."""
    return all(kept == c for c, kept in _judged(text))


def _judged(text: str, lines: str = "") -> Iterator[tuple[str, str]]:
    """Yield pieces of a text, each with itself or, if it would be interpreted or hidden, "".

    The latter are control characters, escapes, marks that reverse or hide text, lone surrogates,
    private characters, unusual spaces, invisible characters, and too many marks on a letter.
    """
    if text.isascii() and text.isprintable():
        yield text, text
        return
    combining = joining = 0
    visible = False
    for c in text:
        if c in _JOINING:
            joining += 1
            sound = visible and joining <= _MOST_JOINING
        elif unicodedata.category(c) in ("Mn", "Me") and c not in _UNSEEN:
            combining += 1
            sound = combining <= _MOST_MARKS
        else:
            combining = joining = 0
            sound = c in lines or (c.isprintable() and c not in _UNSEEN)
            visible = sound and not c.isspace()
        yield c, c if sound else ""


def whole_characters(text: str) -> str:
    """Return a text that UTF-8 can encode.

    Pairs of surrogates are joined, as JSON's readers do; each lone one becomes ``?``.
    """
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return joined.encode("utf-8", "replace").decode()


def cut(text: str, most: int) -> str:
    """Return a text cut to at most ``most`` characters; a longer one ends with ``…``."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def clean(text: str, most: int) -> str:
    """Return a text as one short line, without what :func:`inert` escapes."""
    return "".join(kept for _, kept in _judged(text[: 4 * most]))[:most].strip()


def shown(text: str, most: int) -> str:
    """Return a text cut to at most ``most`` characters, inert except for line ends and tabs."""
    return cut(inert_lines(cut(text, most)), most)


def tell(line: str, file: IO[str] | None = None) -> None:
    """Print a line that may contain untrusted text; nothing in it controls the terminal."""
    print(inert_lines(line), file=file)
