"""Lists of sources on disk: text files of links or searches, and folders of video files."""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".266", ".360", ".3g2", ".3gp", ".3gp2", ".3gpp", ".amv", ".apng", ".asf",
    ".avc", ".avi", ".avs2", ".avs3", ".bik", ".cavs", ".cine", ".dav", ".divx", ".dnxhd", ".dnxhr",
    ".dv", ".dvr-ms", ".evc", ".evo", ".f4v", ".flc", ".fli", ".flv", ".gif", ".gxf", ".h261",
    ".h263", ".h264", ".h265", ".h266", ".hevc", ".insv", ".ismv", ".ivf", ".kux", ".lrf", ".lrv",
    ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv",
    ".mod", ".moflex", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mqv", ".mts",
    ".mxf", ".nsv", ".nut", ".nuv", ".obu", ".ogm", ".ogv", ".pva", ".qt", ".r3d", ".rm", ".rmvb",
    ".roq", ".smk", ".swf", ".tod", ".tp", ".trp", ".ts", ".usm", ".vc1", ".vc2", ".viv", ".vob",
    ".vro", ".vvc", ".webm", ".wm", ".wmv", ".wtv", ".xmv", ".y4m",
})
# fmt: on
HIDDEN_FOLDER = "hidden folder"
MAX_BYTES = 64 * 2**20  # about 800,000 links; a larger file is not a list but a video
MAX_LINES = 1_000_000  # also for the rows of a table: each takes more memory than its bytes

_BOMS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
_LINE_END = re.compile(r"\r\n|\n|\r")
_QUERY_COMMENT = re.compile(r"(?:^|\s)#(?:\s.*)?$", re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)#.*", re.DOTALL)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a link file, without blank lines and comments.

    Parameters
    ----------
    path : Path
        UTF-8 or UTF-16 text; line ends of any system.

    Returns
    -------
    list of (int, str)
        The line's number from 1, and its text. Blank lines and lines that start with ``#`` are
        omitted, but a comment after a link is not (see :func:`without_comment`). Bytes that are
        not UTF-8 become lone surrogates.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a text file, or far too large for one.
    """
    return list(significant(split_lines(read_text(path))))


def significant(lines: Sequence[str], start: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the lines that are neither blank nor a comment, with their numbers from 1."""
    for index in range(start, len(lines)):
        content = lines[index].lstrip()
        if content and not content.startswith("#"):
            yield index + 1, lines[index]


def split_lines(text: str) -> list[str]:
    """Split a text at line ends of any system; `ValueError` if there are far too many."""
    if max(text.count("\n"), text.count("\r")) > MAX_LINES:
        raise ValueError(f"has more than {MAX_LINES:,} lines: split it")
    return _LINE_END.split(text)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16; see :func:`read_lines`."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 2**20} MB: not a list of links")
    bom, encoding = next(((b, e) for b, e in _BOMS if raw.startswith(b)), (b"", _guess(raw)))
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    text = raw[len(bom) :].decode(encoding, errors)
    if "\0" in text:
        raise ValueError("is not a text file")
    return text


def _guess(raw: bytes) -> str:
    """Recognise UTF-16 without a byte order mark by its first letter, which is ASCII."""
    if len(raw) % 2 or raw[:2].count(0) != 1:
        return "utf-8"
    return "utf-16-le" if raw[0] else "utf-16-be"


def without_comment(line: str) -> str:
    """Cut off a line at the first ``#`` that follows white space."""
    return _COMMENT.sub("", line).rstrip()


def without_quotes(line: str) -> str:
    """Remove quotation marks around a whole line."""
    text = line.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted and text[0] not in text[1:-1] else line


def without_query_comment(line: str) -> str:
    """Cut off a search at the first separate ``#``; ``#shorts`` is part of the search."""
    return _QUERY_COMMENT.sub("", line).rstrip()


@dataclass(frozen=True)
class FoundVideos:
    """The video files below a folder in sorted order, and what was skipped.

    Attributes
    ----------
    videos : list of Path
        Files with the suffix of a video.
    errors : list of OSError
        Of folders that could not be read.
    skipped : Counter
        The number of other files per suffix, and the number of hidden folders.
    """

    videos: list[Path]
    errors: list[OSError] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def find_videos(folder: Path, skip: Path | None = None) -> FoundVideos:
    """Find the video files below a folder.

    Parameters
    ----------
    folder : Path
        Searched with its subfolders and linked folders, each once, but without hidden folders.
    skip : Path, optional
        A folder to skip: the store, whose videos are not new.
    """
    found = FoundVideos([])
    visited = {os.path.realpath(folder)} | ({os.path.realpath(skip)} if skip else set())
    for parent, folders, names in os.walk(folder, onerror=found.errors.append, followlinks=True):
        hidden = [name for name in folders if name.startswith(".")]
        new_hidden = [name for name in hidden if _real(parent, name) not in visited]
        found.skipped.update(HIDDEN_FOLDER for _ in new_hidden)
        visible = sorted(set(folders).difference(hidden))
        folders[:] = [name for name in visible if _is_new(_real(parent, name), visited)]
        for name in names:
            kind = _kind(name)
            if kind in VIDEO_SUFFIXES:
                found.videos.append(Path(parent, name))
            else:
                found.skipped[kind] += 1
    found.videos.sort()
    return found


def _real(parent: str, name: str) -> str:
    return os.path.realpath(os.path.join(parent, name))


def _is_new(real: str, visited: set[str]) -> bool:
    if real in visited:
        return False
    visited.add(real)
    return True


def _kind(name: str) -> str:
    """Return a file's suffix in lower case, or a word for a file without one."""
    if name.startswith("."):
        return "hidden"
    return os.path.splitext(name)[1].strip().lower() or "without a suffix"
