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
MAX_BYTES = 64 * 2**20  # some 800,000 links; whatever is larger is no list but a video
MAX_LINES = 1_000_000  # also of a table's rows: each takes more memory than it has bytes

_BOMS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
_LINE_END = re.compile(r"\r\n|\n|\r")
_QUERY_REMARK = re.compile(r"(?:^|\s)#(?:\s.*)?$", re.DOTALL)
_REMARK = re.compile(r"(?:^|\s)#.*", re.DOTALL)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a link file that say something.

    Parameters
    ----------
    path : Path
        UTF-8 or UTF-16 text; ends of line of any system.

    Returns
    -------
    list of (int, str)
        The line's number from 1 and its text; blank lines and lines that begin with
        ``#`` are left out, a remark behind a link is not (see :func:`without_remark`). Bytes
        that are not UTF-8 stay in the text as lone surrogates.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not a text file, or far too large for one.
    """
    return list(significant(split_lines(read_text(path))))


def significant(lines: Sequence[str], start: int = 0) -> Iterator[tuple[int, str]]:
    """Yield the lines that are neither blank nor a comment, with their numbers from 1."""
    for place in range(start, len(lines)):
        said = lines[place].lstrip()
        if said and not said.startswith("#"):
            yield place + 1, lines[place]


def split_lines(text: str) -> list[str]:
    """Split a text at the ends of line of any system; `ValueError` if there are far too many."""
    if max(text.count("\n"), text.count("\r")) > MAX_LINES:
        raise ValueError(f"has more than {MAX_LINES:,} lines: split it")
    return _LINE_END.split(text)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16; see :func:`read_lines`."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 2**20} MB: no list of links")
    bom, encoding = next(((b, e) for b, e in _BOMS if raw.startswith(b)), (b"", _guess(raw)))
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    text = raw[len(bom) :].decode(encoding, errors)
    if "\0" in text:
        raise ValueError("is not a text file")
    return text


def _guess(raw: bytes) -> str:
    """Tell UTF-16 without a byte order mark by the first letter, which is one of ASCII."""
    if len(raw) % 2 or raw[:2].count(0) != 1:
        return "utf-8"
    return "utf-16-le" if raw[0] else "utf-16-be"


def without_remark(line: str) -> str:
    """Cut a line at its first ``#`` that follows white space."""
    return _REMARK.sub("", line).rstrip()


def without_quotes(line: str) -> str:
    """Take off quotation marks around a whole line."""
    text = line.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted and text[0] not in text[1:-1] else line


def without_query_remark(line: str) -> str:
    """Cut a search at its first ``#`` that stands alone; ``#shorts`` is a part of the search."""
    return _QUERY_REMARK.sub("", line).rstrip()


@dataclass(frozen=True)
class FoundVideos:
    """What is below a folder: video files in sorted order, and what was not taken.

    Attributes
    ----------
    videos : list of Path
        By their suffixes.
    errors : list of OSError
        Of folders that could not be read.
    left_out : Counter
        How many other files there are, by their suffixes, and how many hidden folders.
    """

    videos: list[Path]
    errors: list[OSError] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_videos(folder: Path, skip: Path | None = None) -> FoundVideos:
    """Find the video files below a folder.

    Parameters
    ----------
    folder : Path
        Where to look; linked folders are followed, each once. Hidden folders are left out.
    skip : Path, optional
        A folder to leave out: the store, whose videos are not new ones.
    """
    found = FoundVideos([])
    seen = {os.path.realpath(folder)} | ({os.path.realpath(skip)} if skip else set())
    for where, folders, names in os.walk(folder, onerror=found.errors.append, followlinks=True):
        hidden = [name for name in folders if name.startswith(".")]
        found.left_out.update(HIDDEN_FOLDER for name in hidden if _real(where, name) not in seen)
        shown = sorted(set(folders).difference(hidden))
        folders[:] = [name for name in shown if _is_new(_real(where, name), seen)]
        for name in names:
            kind = _kind(name)
            if kind in VIDEO_SUFFIXES:
                found.videos.append(Path(where, name))
            else:
                found.left_out[kind] += 1
    found.videos.sort()
    return found


def _real(where: str, name: str) -> str:
    return os.path.realpath(os.path.join(where, name))


def _is_new(real: str, seen: set[str]) -> bool:
    if real in seen:
        return False
    seen.add(real)
    return True


def _kind(name: str) -> str:
    """Return a file's suffix in small letters, or what it is called without one."""
    if name.startswith("."):
        return "hidden"
    return os.path.splitext(name)[1].strip().lower() or "without an ending"
