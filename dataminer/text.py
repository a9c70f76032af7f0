"""Text that strangers wrote, made safe to show in a terminal, a log or a page."""

from __future__ import annotations

from typing import IO


class _Spelled(dict[int, str]):
    """What to show for each character, found out as it first comes.

    Controls, escapes, marks that turn or hide text, halves of a character, private characters and
    odd spaces are spelled out: a terminal or a browser obeys them, or shows what is not there.
    """

    def __missing__(self, code: int) -> str:
        c = chr(code)
        self[code] = c if c.isprintable() else ascii(c)[1:-1]
        return self[code]


_SPELLED = _Spelled()
_SPELLED_IN_LINES = _Spelled({ord(c): c for c in "\n\t"})


def inert(text: str) -> str:
    r"""Spell out each character that a terminal or a browser would obey or hide: ``\x1b``."""
    return text if text.isprintable() else text.translate(_SPELLED)


def inert_lines(text: str) -> str:
    """Do what :func:`inert` does, but keep line ends and tabs."""
    return text if text.isprintable() else text.translate(_SPELLED_IN_LINES)


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; ``…`` ends one that was longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def clean(text: str, most: int) -> str:
    """Return what is kept of a text: one short line, without what :func:`inert` spells out."""
    return "".join(c for c in text[: 4 * most] if c.isprintable())[:most].strip()


def shown(text: str, most: int) -> str:
    """Return a text of at most so many characters, made inert but for line ends and tabs."""
    return cut(inert_lines(cut(text, most)), most)


def tell(line: str, file: IO[str] | None = None) -> None:
    """Print a line in which a stranger's text may stand; nothing in it steers the terminal."""
    print(inert_lines(line), file=file)
