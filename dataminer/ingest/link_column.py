"""A table's column of links: which one it is, and the cells in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import Any

from dataminer.ingest import youtube
from dataminer.ingest.listing import VIDEO_SUFFIXES
from dataminer.ingest.parse import printable

COLUMN_SETTING = "input.url_column"
LINK_NAMES = (  # names of a column of links, the most certain first; letters and digits only
    *("videourl", "videolink", "videouri", "youtubeurl", "youtubelink", "url", "link", "uri"),
    *("href", "urls", "links", "mediaurl", "contenturl", "downloadurl", "fileurl", "sourceurl"),
    "webpageurl",
)
PATH_NAMES = ("path", "file", "filename", "filepath", "videopath", "videofile", "video", "source")
_LISTED_COLUMNS = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the column of links.

    Attributes
    ----------
    number : int
        Of its line, or of its row if the file has no lines; from 1.
    text : str
        The link or path; of an unusable cell, enough of its text to find it.
    reason : str
        Why it cannot be used; empty if it can.
    """

    number: int
    text: str
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """A column of links or paths.

    Attributes
    ----------
    column : str
        Its name in messages; empty for a list, which has one link per line.
    unit : str
        The unit of the cells' numbers: `line` or `row`.
    cells : list of Cell
        In order, without empty rows.
    """

    column: str
    unit: str
    cells: list[Cell]


def label_of(names: Sequence[str] | None, index: int) -> str:
    """Return the name of a column in messages; its number if the table names no columns."""
    return f"`{printable(names[index])}`" if names else f"{index + 1}"


def cell_of(number: int, value: Any, cells: Iterable[Any], label: str) -> Cell:
    """Return the cell with a value; if that is not a text, with all cells of its row and why."""
    if isinstance(value, str) and value.strip():
        return Cell(number, value)
    filled = islice((cell for cell in cells if cell not in (None, "")), _LISTED_COLUMNS)
    what = "not text" if value not in (None, "") and not isinstance(value, str) else "empty"
    return Cell(number, ", ".join(map(_text_of, filled)), f"its column {label} is {what}")


def _text_of(value: Any) -> str:
    """Return a JSON value as text; only the type of a list or an object, which may be deep."""
    if isinstance(value, list):
        return "[...]"
    return "{...}" if isinstance(value, dict) else str(value)


def choose_column(
    names: Sequence[str] | None,
    sources: Iterable[int],
    column: str | None,
    described: Sequence[str] | None = None,
) -> int:
    """Return the index of the column of links: as requested, by its name, or by its cells.

    `sources` yields the index of the column for each cell that looks like a link.

    Raises
    ------
    ValueError
        If no column, or more than one, may be the column of links.
    """
    if column is not None:
        return find_column(names, column, described)
    plain = [plain_name(name) for name in names or ()]
    named = [plain.index(name) for name in LINK_NAMES if name in plain]
    if named:
        return named[0]
    counts = Counter(sources)
    most = [index for index, count in counts.items() if count == max(counts.values())]
    if len(most) == 1:
        return most[0]
    paths = [plain.index(name) for name in PATH_NAMES if name in plain]
    if paths and (not most or paths[0] in most):
        return paths[0]
    problem = "more than one column of links" if most else "no column of links"
    first = "name the columns in a first line, and " if names is None else ""
    listed = _listed(described or names)
    raise ValueError(f"has {problem}: {first}name it in {COLUMN_SETTING}{listed}")


def find_column(
    names: Sequence[str] | None, column: str, described: Sequence[str] | None = None
) -> int:
    """Return the index of the column with a name, or with one that is spelled similarly.

    Raises
    ------
    ValueError
        If there is none.
    """
    if names is None:
        raise ValueError(f"names no columns in its first line, and {COLUMN_SETTING} is {column!r}")
    for key in (str.strip, str.casefold, plain_name):
        found = [key(name) for name in names]
        if key(column) and key(column) in found:
            return found.index(key(column))
    listed = _listed(described or names)
    raise ValueError(f"has no column {column!r}, which {COLUMN_SETTING} names{listed}")


def _listed(names: Sequence[str] | None) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _LISTED_COLUMNS else ""
    return f"; its columns are {', '.join(map(printable, names[:_LISTED_COLUMNS]))}{more}"


def plain_name(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]", "", name.casefold())


def looks_like_source(value: Any) -> bool:
    """Return whether a cell looks like a link, or like the path of a video."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    if re.match(r"https?://|youtube:", text, re.IGNORECASE) or youtube.with_scheme(text):
        return True
    return PurePath(text).suffix.lower() in VIDEO_SUFFIXES
