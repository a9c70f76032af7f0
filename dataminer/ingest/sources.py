"""Collect all sources of an input section: searches, links, link files, files and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dataminer.config.models import DownloadConfig, InputConfig, ListFilters
from dataminer.db.enums import SourceType
from dataminer.errors import DataminerError
from dataminer.ingest import listing, search, tables
from dataminer.ingest.link_column import Table
from dataminer.ingest.parse import (
    InputError,
    Source,
    as_url,
    as_video_list,
    check_text,
    parse,
    printable,
    resolve_path,
)
from dataminer.ingest.youtube import VideoList
from dataminer.signatures import is_signed_earlier
from dataminer.text import inert

_Content = TypeVar("_Content")

LookUp = Callable[
    [search.ListRequest, ListFilters, DownloadConfig], Generator[Source | None, None, None]
]

_ENTRIES_PER_REPORT = 100  # entries of a list between two lines of progress
_LISTED_SUFFIXES = 8
_QUOTE_OR_COMMENT = re.compile("[\"'#]")
_ENTRIES_PER_RESULT = 10  # entries of a search to read at most, per video wanted


@dataclass(frozen=True, slots=True)
class Rejected:
    """A text of the input that cannot be mined, where it was, why, and the next step, if known."""

    text: str
    origin: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Collected:
    """All results of an input section; ``interrupted`` if Ctrl-C ended the collection early."""

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
    """Collect all sources of an input section, in the order of its keys.

    Ctrl-C ends the collection; what was found until then is returned.

    Parameters
    ----------
    settings, download : InputConfig, DownloadConfig
        The input section, and how yt-dlp reaches YouTube.
    base : Path
        The folder that relative paths start from; those in a link file first start from its folder.
    look_up : callable, optional
        Lists searches, playlists and channels.
    progress : callable, optional
        Gets a line per list or folder, and more on long lists.
    skip : Path, optional
        A folder to skip in scans of folders: the store.

    Returns
    -------
    Collected
        Each video once, as first mentioned, but with the latest signature of its link; and
        everything that could not be used.
    """
    report = progress or (lambda line: None)
    collector = _Collector(settings, base, download or DownloadConfig(), look_up, report, skip)
    return _without_duplicates(collector.everything())


def _without_duplicates(items: Iterable[Source | Rejected]) -> Collected:
    sources: dict[str, Source] = {}
    rejected: list[Rejected] = []
    interrupted = False
    try:
        for item in items:
            if isinstance(item, Rejected):
                rejected.append(item)
            else:
                first = sources.setdefault(item.video_id, item)
                if item.url.is_signed and not is_signed_earlier(
                    item.url.reveal(), first.url.reveal()
                ):
                    sources[item.video_id] = replace(first, url=item.url)
    except KeyboardInterrupt:
        interrupted = True
    return Collected(list(sources.values()), rejected, interrupted)


@dataclass(frozen=True)
class _InputText:
    """One text that names a video, a folder of videos or a list of them."""

    text: str
    origin: str  # "links.txt:12": stored with the source
    label: str  # "links.txt line 12": used in messages
    bases: tuple[Path, ...]  # folders that a relative path may start from


@dataclass(frozen=True)
class _Collector:
    settings: InputConfig
    base: Path
    download: DownloadConfig
    look_up: LookUp
    report: Callable[[str], None]
    skip: Path | None

    def everything(self) -> Iterator[Source | Rejected]:
        settings = self.settings
        for index, query in enumerate(settings.searches):
            yield from self.from_search(self.from_setting(query, f"input.searches[{index}]"))
        for index, text in enumerate(settings.query_files):
            yield from self.from_query_file(text, f"input.query_files[{index}]")
        for index, text in enumerate(settings.urls):
            yield from self.from_entry(self.from_setting(text, f"input.urls[{index}]"))
        for index, text in enumerate(settings.url_files):
            yield from self.from_url_file(text, f"input.url_files[{index}]")
        for index, text in enumerate(settings.files):
            yield from self.from_entry(self.from_setting(text, f"input.files[{index}]"))

    def from_setting(self, text: str, setting: str) -> _InputText:
        return _InputText(text, setting, setting, (self.base,))

    def from_search(self, entry: _InputText) -> Iterator[Source | Rejected]:
        try:
            request = search.search(entry.text, self.settings.filters)
        except InputError as error:
            yield Rejected(printable(entry.text), entry.label, error.reason)
            return
        yield from self.from_list(entry, request)

    def from_query_file(self, text: str, setting: str) -> Iterator[Source | Rejected]:
        for entry in self.lines_of(text, setting):
            if isinstance(entry, Rejected):
                yield entry
            else:
                query = listing.without_query_comment(entry.text)
                yield from self.from_search(replace(entry, text=query))

    def from_list(
        self, entry: _InputText, request: search.ListRequest
    ) -> Iterator[Source | Rejected]:
        """Take videos from a list until there are enough, and report the progress."""
        most, max_entries, key = self._bounds(request)
        read = taken = 0
        try:
            with closing(self.look_up(request, self.settings.filters, self.download)) as found:
                for source in found:
                    read += 1
                    if source is not None:
                        taken += 1
                        info = {**source.source_info, "origin": entry.origin}
                        yield replace(source, source_info=info)
                    if taken == most or read == max_entries:
                        break
                    if read % _ENTRIES_PER_REPORT == 0:
                        self.report(f"{request.name}: {taken} videos of {read} so far")
        except DataminerError as error:
            after = f"; {taken} videos were found before" if taken else ""
            reason = f"{inert(error.message)}{after}"
            yield Rejected(printable(entry.text), entry.label, reason, error.hint)
            return
        self.report(f"{request.name}: {_summary(read, taken, taken == most and key)}")
        if not taken:
            reason = f"found no video{' that passes input.filters' if read else ''}"
            yield Rejected(printable(entry.text), entry.label, reason)

    def _bounds(self, request: search.ListRequest) -> tuple[int, int, str]:
        """Return the maximum number of videos and of entries, and the name of the setting."""
        if request.source_type == SourceType.SEARCH:
            most = self.settings.max_results_per_query
            return most, most * _ENTRIES_PER_RESULT, "max_results_per_query"
        most = self.settings.max_videos_per_playlist
        return most, -1, "max_videos_per_playlist"

    def from_url_file(self, text: str, setting: str) -> Iterator[Source | Rejected]:
        name = printable(text)
        try:
            path, table = _read(text, self.base, self._read_table)
        except InputError as error:
            yield Rejected(name, setting, error.reason)
            return
        column = f", links in column {table.column}" if table.column else ""
        self.report(f"{name}: {len(table.cells)} {table.unit}s{column}")
        for cell in table.cells:
            label = f"{name} {table.unit} {cell.number}"
            if cell.reason:
                yield Rejected(printable(cell.text), label, cell.reason)
                continue
            bases = (path.parent, self.base)
            entry = _InputText(cell.text, f"{name}:{cell.number}", label, bases)
            if table.column:
                yield from self.from_entry(entry, with_folders=False)
            else:
                yield from self.from_entry(_bare(entry))

    def _read_table(self, path: Path) -> Table:
        return tables.read_table_of_links(path, self.settings.url_column)

    def lines_of(self, text: str, setting: str) -> Iterator[_InputText | Rejected]:
        name = printable(text)
        try:
            path, lines = _read(text, self.base, listing.read_lines)
        except InputError as error:
            yield Rejected(name, setting, error.reason)
            return
        self.report(f"{name}: {len(lines)} lines")
        for number, line in lines:
            bases = (path.parent, self.base)
            yield _InputText(line, f"{name}:{number}", f"{name} line {number}", bases)

    def from_entry(
        self, entry: _InputText, *, with_folders: bool = True
    ) -> Iterator[Source | Rejected]:
        """Yield what a text names; a table's cell never names a folder: `.` is a missing value."""
        found = _as_video_list(entry.text)
        location = None if found else _locate(entry)
        if found is not None:
            yield from self.from_list(entry, search.video_list_request(found))
        elif with_folders and location is not None and location[1].is_dir():
            yield from self.from_folder(entry, location[1])
        else:
            yield _parse_entry(entry, entry.text, location[0] if location else entry.bases[-1])

    def from_folder(self, entry: _InputText, folder: Path) -> Iterator[Source | Rejected]:
        found = listing.find_videos(folder, self.skip)
        for path in found.videos:
            yield _parse_entry(entry, str(path), folder, {"folder": str(folder)})
        for error in found.errors:
            reason = f"cannot be read ({error.strerror})"
            yield Rejected(printable(str(error.filename)), entry.label, reason)
        count = len(found.videos)
        self.report(f"{printable(entry.text)}: {count} video files{_skipped(found.skipped)}")
        if not count:
            yield Rejected(printable(entry.text), entry.label, "no video file in this folder")


def _skipped(counts: Counter[str]) -> str:
    """Count the files that are not videos per suffix, the most frequent first."""
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_LISTED_SUFFIXES]
    parts = [f"{count} {_kind(kind, count)}" for kind, count in first]
    if rest := counts.total() - sum(count for _, count in first):
        parts.append(f"{rest} others")
    return f"; left out {', '.join(parts)}" if parts else ""


def _kind(kind: str, count: int) -> str:
    plural = "s" if kind == listing.HIDDEN_FOLDER and count > 1 else ""
    return f"{printable(kind)}{plural}"


def _summary(read: int, taken: int, bound: str | bool) -> str:
    videos = f"{taken} video{'' if taken == 1 else 's'}"
    others = f", {read - taken} left out" if read > taken else ""
    return f"{videos}{others}{f', as many as input.{bound} allows' if bound else ''}"


def _as_video_list(text: str) -> VideoList | None:
    try:
        return as_video_list(text)
    except InputError:  # parse() raises it again
        return None


def _read(text: str, base: Path, read: Callable[[Path], _Content]) -> tuple[Path, _Content]:
    check_text(text)
    path, mode = resolve_path(text, base)
    if mode is None:
        raise InputError(text, "no such file")
    try:
        return path, read(path)
    except OSError as error:
        raise InputError(text, f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(text, str(error)) from None


def _bare(entry: _InputText) -> _InputText:
    """Remove quotes and a comment from a line, unless the whole line is the name of a file."""
    if not _QUOTE_OR_COMMENT.search(entry.text):
        return entry
    for text in dict.fromkeys((entry.text, listing.without_comment(entry.text))):
        for bare in dict.fromkeys((text, listing.without_quotes(text))):
            found = replace(entry, text=bare)
            if _locate(found) is not None:
                return found
    return replace(entry, text=listing.without_quotes(listing.without_comment(entry.text)))


def _locate(entry: _InputText) -> tuple[Path, Path] | None:
    """Find the first base under which an entry's path exists; None for a link or a missing file."""
    for base in entry.bases:
        try:
            check_text(entry.text.strip())
            url = as_url(entry.text.strip())
            path, mode = resolve_path(entry.text, base) if url is None else (base, None)
        except InputError:
            continue
        if mode is not None:
            return base, path
    return None


def _parse_entry(
    entry: _InputText, text: str, base: Path, info: dict[str, Any] | None = None
) -> Source | Rejected:
    try:
        source = parse(text, base=base)
    except InputError as error:
        return Rejected(printable(text), entry.label, error.reason)
    return replace(source, source_info={"origin": entry.origin, **(info or {})})
