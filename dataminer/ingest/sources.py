"""Gather all sources of an input section: searches, links, link files, files and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dataminer.config.models import DownloadConfig, InputConfig, ListFilters
from dataminer.db.enums import SourceType
from dataminer.errors import DataminerError
from dataminer.ingest import listing, search, tables
from dataminer.ingest.parse import (
    ID_PATTERN,
    InputError,
    Source,
    as_url,
    as_video_list,
    check_text,
    find,
    parse,
    printable,
)
from dataminer.ingest.youtube import VideoList
from dataminer.signatures import is_older
from dataminer.text import inert

__all__ = ["ID_PATTERN", "Collected", "InputError", "Rejected", "Source", "collect", "parse"]

_Content = TypeVar("_Content")

LookUp = Callable[[search.Asked, ListFilters, DownloadConfig], Generator[Source | None, None, None]]

_LOOKED_AT_A_LINE = 100  # entries of a list between two lines of progress
_SHOWN_ENDINGS = 8
_QUOTE_OR_REMARK = re.compile("[\"'#]")
_LOOKED_AT_A_RESULT = 10  # how many entries of a search may be passed over for each that is wanted


@dataclass(frozen=True, slots=True)
class Rejected:
    """A text that was given and cannot be mined, where it stood, and why."""

    text: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Collected:
    """All that came out of an input section; ``interrupted`` when Ctrl-C ended it early."""

    sources: list[Source]
    rejected: list[Rejected]
    interrupted: bool = False


def collect(
    settings: InputConfig,
    *,
    base: Path = Path(),
    download: DownloadConfig | None = None,
    look_up: LookUp = search.look_up,
    progress: Callable[[str], None] | None = None,
    skip: Path | None = None,
) -> Collected:
    """Gather all sources of an input section, in the order of its keys.

    Ctrl-C ends the gathering, and what was found until then is returned.

    Parameters
    ----------
    settings : InputConfig
        What to look for.
    base : Path
        Where relative paths begin; those in a link file begin at its folder, then here.
    download : DownloadConfig, optional
        How yt-dlp reaches YouTube.
    look_up : callable, optional
        Lists searches, playlists and channels.
    progress : callable, optional
        Is told what was looked at, a line each, and on long lists how far it is.
    skip : Path, optional
        A folder that no scan of folders enters: the store.

    Returns
    -------
    Collected
        Each video once, as it was mentioned first, with the last signature that its link was
        given with; and everything that could not be used.
    """
    say = progress or (lambda line: None)
    collector = _Collector(settings, base, download or DownloadConfig(), look_up, say, skip)
    sources: dict[str, Source] = {}
    rejected: list[Rejected] = []
    interrupted = False
    try:
        for item in collector.everything():
            if isinstance(item, Rejected):
                rejected.append(item)
            else:
                first = sources.setdefault(item.video_id, item)
                if item.url.is_signed and not is_older(item.url.reveal(), first.url.reveal()):
                    sources[item.video_id] = replace(first, url=item.url)
    except KeyboardInterrupt:
        interrupted = True
    return Collected(list(sources.values()), rejected, interrupted)


@dataclass(frozen=True)
class _Entry:
    """One text that names a video, a folder of videos or a list of them."""

    text: str
    origin: str  # "links.txt:12": kept with the source
    label: str  # "links.txt line 12": said to people
    bases: tuple[Path, ...]  # where a relative path may begin


@dataclass(frozen=True)
class _Collector:
    settings: InputConfig
    base: Path
    download: DownloadConfig
    look_up: LookUp
    say: Callable[[str], None]
    skip: Path | None

    def everything(self) -> Iterator[Source | Rejected]:
        given = self.settings
        for index, query in enumerate(given.searches):
            yield from self.from_search(self.given(query, f"input.searches[{index}]"))
        for index, text in enumerate(given.query_files):
            yield from self.from_query_file(text, f"input.query_files[{index}]")
        for index, text in enumerate(given.urls):
            yield from self.from_entry(self.given(text, f"input.urls[{index}]"))
        for index, text in enumerate(given.url_files):
            yield from self.from_url_file(text, f"input.url_files[{index}]")
        for index, text in enumerate(given.files):
            yield from self.from_entry(self.given(text, f"input.files[{index}]"))

    def given(self, text: str, place: str) -> _Entry:
        return _Entry(text, place, place, (self.base,))

    def from_search(self, entry: _Entry) -> Iterator[Source | Rejected]:
        try:
            asked = search.search(entry.text, self.settings.filters)
        except InputError as error:
            yield Rejected(printable(entry.text), entry.label, error.reason)
            return
        yield from self.from_list(entry, asked)

    def from_query_file(self, text: str, place: str) -> Iterator[Source | Rejected]:
        for entry in self.lines_of(text, place):
            if isinstance(entry, Rejected):
                yield entry
            else:
                query = listing.without_query_remark(entry.text)
                yield from self.from_search(replace(entry, text=query))

    def from_list(self, entry: _Entry, asked: search.Asked) -> Iterator[Source | Rejected]:
        """Take videos off a list until there are enough, and say how far it is."""
        most, patience, key = self._bounds(asked)
        looked = taken = 0
        try:
            with closing(self.look_up(asked, self.settings.filters, self.download)) as found:
                for source in found:
                    looked += 1
                    if source is not None:
                        taken += 1
                        info = {**source.source_info, "origin": entry.origin}
                        yield replace(source, source_info=info)
                    if taken == most or looked == patience:
                        break
                    if looked % _LOOKED_AT_A_LINE == 0:
                        self.say(f"{asked.name}: {taken} videos of {looked} so far")
        except DataminerError as error:
            after = f"; {taken} videos were found before" if taken else ""
            yield Rejected(printable(entry.text), entry.label, f"{inert(error.message)}{after}")
            return
        self.say(f"{asked.name}: {_summary(looked, taken, taken == most and key)}")
        if not taken:
            reason = f"found no video{' that input.filters let pass' if looked else ''}"
            yield Rejected(printable(entry.text), entry.label, reason)

    def _bounds(self, asked: search.Asked) -> tuple[int, int, str]:
        """Return the videos and the entries at most, and the setting behind it."""
        if asked.source_type == SourceType.SEARCH:
            most = self.settings.max_results_per_query
            return most, most * _LOOKED_AT_A_RESULT, "max_results_per_query"
        most = self.settings.max_videos_per_playlist
        return most, -1, "max_videos_per_playlist"

    def from_url_file(self, text: str, place: str) -> Iterator[Source | Rejected]:
        name = printable(text)
        try:
            path, table = _read(text, self.base, self._read_table)
        except InputError as error:
            yield Rejected(name, place, error.reason)
            return
        column = f", links in column {table.column}" if table.column else ""
        self.say(f"{name}: {len(table.cells)} {table.unit}s{column}")
        for cell in table.cells:
            label = f"{name} {table.unit} {cell.number}"
            if cell.reason:
                yield Rejected(printable(cell.text), label, cell.reason)
                continue
            bases = (path.parent, self.base)
            entry = _Entry(cell.text, f"{name}:{cell.number}", label, bases)
            if table.column:
                yield from self.from_entry(entry, with_folders=False)
            else:
                yield from self.from_entry(_bare(entry))

    def _read_table(self, path: Path) -> tables.Table:
        return tables.read(path, self.settings.url_column)

    def lines_of(self, text: str, place: str) -> Iterator[_Entry | Rejected]:
        name = printable(text)
        try:
            path, lines = _read(text, self.base, listing.read_lines)
        except InputError as error:
            yield Rejected(name, place, error.reason)
            return
        self.say(f"{name}: {len(lines)} lines")
        for number, line in lines:
            bases = (path.parent, self.base)
            yield _Entry(line, f"{name}:{number}", f"{name} line {number}", bases)

    def from_entry(
        self, entry: _Entry, *, with_folders: bool = True
    ) -> Iterator[Source | Rejected]:
        """Look up what a text names; a table's cell names no folder: `.` is a missing value."""
        found = _as_video_list(entry.text)
        place = None if found else _locate(entry)
        if found is not None:
            yield from self.from_list(entry, search.video_list(found))
        elif with_folders and place is not None and place[1].is_dir():
            yield from self.from_folder(entry, place[1])
        else:
            yield _parse_entry(entry, entry.text, entry.bases[-1] if place is None else place[0])

    def from_folder(self, entry: _Entry, folder: Path) -> Iterator[Source | Rejected]:
        found = listing.find_videos(folder, self.skip)
        for path in found.videos:
            yield _parse_entry(entry, str(path), folder, {"folder": str(folder)})
        for error in found.errors:
            reason = f"cannot be read ({error.strerror})"
            yield Rejected(printable(str(error.filename)), entry.label, reason)
        count = len(found.videos)
        self.say(f"{printable(entry.text)}: {count} video files{_left_out(found.left_out)}")
        if not count:
            yield Rejected(printable(entry.text), entry.label, "no video file in this folder")


def _left_out(counts: Counter[str]) -> str:
    """Count the files that are no videos, by their endings, the most frequent first."""
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_ENDINGS]
    parts = [f"{count} {_kind(kind, count)}" for kind, count in first]
    if rest := counts.total() - sum(count for _, count in first):
        parts.append(f"{rest} others")
    return f"; left out {', '.join(parts)}" if parts else ""


def _kind(kind: str, count: int) -> str:
    plural = "s" if kind == listing.HIDDEN_FOLDER and count > 1 else ""
    return f"{printable(kind)}{plural}"


def _summary(looked: int, taken: int, bound: str | bool) -> str:
    videos = f"{taken} video{'' if taken == 1 else 's'}"
    others = f", {looked - taken} left out" if looked > taken else ""
    return f"{videos}{others}{f', as many as input.{bound} allows' if bound else ''}"


def _as_video_list(text: str) -> VideoList | None:
    try:
        return as_video_list(text)
    except InputError:  # parse() says the same again
        return None


def _read(text: str, base: Path, read: Callable[[Path], _Content]) -> tuple[Path, _Content]:
    check_text(text)
    path, mode = find(text, base)
    if mode is None:
        raise InputError(text, "no such file")
    try:
        return path, read(path)
    except OSError as error:
        raise InputError(text, f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(text, str(error)) from None


def _bare(entry: _Entry) -> _Entry:
    """Take quotes and a remark off a line, unless the whole line is a file's name."""
    if not _QUOTE_OR_REMARK.search(entry.text):
        return entry
    for text in dict.fromkeys((entry.text, listing.without_remark(entry.text))):
        for bare in dict.fromkeys((text, listing.without_quotes(text))):
            found = replace(entry, text=bare)
            if _locate(found) is not None:
                return found
    return replace(entry, text=listing.without_quotes(listing.without_remark(entry.text)))


def _locate(entry: _Entry) -> tuple[Path, Path] | None:
    """Find the first base under which an entry's path exists; None for a link or nothing."""
    for base in entry.bases:
        try:
            check_text(entry.text.strip())
            url = as_url(entry.text.strip())
            path, mode = find(entry.text, base) if url is None else (base, None)
        except InputError:
            continue
        if mode is not None:
            return base, path
    return None


def _parse_entry(
    entry: _Entry, text: str, base: Path, info: dict[str, Any] | None = None
) -> Source | Rejected:
    try:
        source = parse(text, base=base)
    except InputError as error:
        return Rejected(printable(text), entry.label, error.reason)
    return replace(source, source_info={"origin": entry.origin, **(info or {})})
