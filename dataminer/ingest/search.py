"""YouTube searches, playlists and channels, through yt-dlp, without opening one of the videos."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dataminer.config.models import DownloadConfig, ListFilters
from dataminer.errors import DataminerError, ErrorClass, TransientError
from dataminer.ingest import filters as checks
from dataminer.ingest import youtube
from dataminer.ingest.parse import InputError, Source, check_text, printable
from dataminer.net.rate_limit import LocalRateLimiter, RateLimiter
from dataminer.net.ytdlp_options import base_options, client, stage_error
from dataminer.text import clean, inert
from dataminer.urls import SourceUrl

_MAX_TEXT = 500
_MAX_REDIRECTS = 5
_LISTS = {"playlist", "multi_video"}
_LINKS = {"url", "url_transparent"}


@dataclass(frozen=True)
class Asked:
    """A list of videos to ask YouTube for.

    Parameters
    ----------
    name : str
        What people are told that it is: ``search cats``.
    target : str
        What yt-dlp is given: a link, or ``ytsearchall:…``.
    info : dict
        Goes into the ``source_info`` of each video, beside its rank.
    source_type : str
        Of each video.
    """

    name: str
    target: str
    info: dict[str, Any] = field(default_factory=dict)
    source_type: str = "URL"


def search(query: str, filters: ListFilters) -> Asked:
    """Describe a search.

    Raises
    ------
    InputError
        The query is empty, or holds what no query may.
    """
    query = " ".join(query.split())
    if not query:
        raise InputError(query, "an empty search")
    check_text(query)
    target = checks.search_target(query, filters)
    return Asked(f"search {printable(query)}", target, {"query": query}, "SEARCH")


def video_list(found: youtube.VideoList) -> Asked:
    """Describe a playlist, a channel, or a page of results."""
    key = found.kind.replace(" ", "_")
    return Asked(f"{found.kind} {printable(found.url)}", found.url, {key: found.url})


def look_up(
    asked: Asked,
    filters: ListFilters,
    settings: DownloadConfig,
    *,
    gate: RateLimiter | None = None,
) -> Generator[Source | None, None, None]:
    """Ask YouTube for a list of videos, page by page as they are taken.

    Parameters
    ----------
    asked : Asked
        Which list.
    filters : ListFilters
        Which of its videos are wanted.
    settings : DownloadConfig
        Retries, time-out, and how yt-dlp reaches the network.
    gate : RateLimiter, optional
        Asked before each HTTP request; by default this process keeps to the limits by itself.

    Yields
    ------
    Source or None
        One for each entry, in YouTube's order; None for one that is no video, was there before,
        or that the filters leave out. ``source_info`` holds ``asked.info``, the rank from 1, and
        what the list says: title, duration, uploader, licence.

    Raises
    ------
    TransientError
        NETWORK, RATE_LIMIT, BOT_CHECK, BLOCKED or TIMEOUT: it may work later; also after the first
        pages.
    """
    options = _lazily(base_options(settings, lambda line: None), filters)
    gate = gate or LocalRateLimiter(settings.budget)
    seen: set[str] = set()
    try:
        with client(options, gate=gate, given=asked.target) as ydl:
            for rank, entry in enumerate(_entries(_first_page(ydl, asked.target)), start=1):
                if rank == 1:  # it answers
                    gate.report_success()
                source = _source(entry, asked, rank)
                if source is None or source.video_id in seen or not checks.admits(entry, filters):
                    yield None
                    continue
                seen.add(source.video_id)
                yield source
    except DataminerError:
        raise
    except Exception as error:  # whatever yt-dlp could not make of the answer
        raise _failure(error, asked) from error


def _lazily(options: dict[str, Any], filters: ListFilters) -> dict[str, Any]:
    """Add to options: hide what is gone from playlists, and tell ages where they are wanted."""
    options = {**options, "compat_opts": {"no-youtube-unavailable-videos"}}
    if filters.after or filters.before:
        given = options.get("extractor_args", {})
        ages = {**given.get("youtubetab", {}), "approximate_date": [""]}
        options["extractor_args"] = {**given, "youtubetab": ages}
    return options


def _first_page(ydl: Any, target: str) -> dict[str, Any]:
    """Ask for a list and follow yt-dlp from link to link; unprocessed, its entries stay lazy."""
    found: dict[str, Any] = ydl.extract_info(target, download=False, process=False) or {}
    for _ in range(_MAX_REDIRECTS):
        if found.get("_type") not in _LINKS or _video_id(found):
            break
        found = ydl.extract_info(
            found["url"], download=False, process=False, ie_key=found.get("ie_key")
        )
    return found


def _entries(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the videos of a list; a channel is a list of lists."""
    if found.get("_type") not in _LISTS:
        yield found
        return
    for entry in found.get("entries") or ():
        if entry and entry.get("_type") in _LISTS:
            yield from _entries(entry)
        elif entry:
            yield entry


def _source(entry: dict[str, Any], asked: Asked, rank: int) -> Source | None:
    video_id = _video_id(entry)
    if video_id is None:
        return None
    info = {**asked.info, "rank": rank, **_about(entry)}
    return Source(video_id, SourceUrl(youtube.WATCH_URL.format(video_id)), asked.source_type, info)


def _video_id(entry: dict[str, Any]) -> str | None:
    """Return the id of the video that an entry links to; None for a channel or a playlist."""
    try:
        parts = urlsplit(str(entry.get("url") or entry.get("webpage_url")))
        return youtube.video_id(parts) if youtube.is_host(parts.hostname or "") else None
    except ValueError:
        return None


def _about(entry: dict[str, Any]) -> dict[str, Any]:
    about = {
        "title": _text(entry.get("title")),
        "uploader": _text(entry.get("uploader") or entry.get("channel")),
        "licence": _text(entry.get("license")),
        "duration": checks.duration(entry),
    }
    return {key: value for key, value in about.items() if value}


def _text(value: Any) -> str:
    return clean(value, _MAX_TEXT) if isinstance(value, str) else ""


def _failure(error: Exception, asked: Asked) -> DataminerError:
    cause = stage_error(error, asked.name)
    passes = isinstance(cause, TransientError) and cause.error_class != ErrorClass.INTERNAL
    kind = cause.error_class if passes else ErrorClass.NETWORK
    return TransientError(inert(cause.message), kind, "run `dataminer populate` again")
