"""YouTube searches, playlists and channels through yt-dlp, without opening any of the videos."""

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
from dataminer.net.ytdlp_errors import stage_error
from dataminer.net.ytdlp_options import base_options, client
from dataminer.text import clean, inert
from dataminer.urls import SourceUrl

_MAX_TEXT = 500
_MAX_REDIRECTS = 5
_LISTS = {"playlist", "multi_video"}
_LINKS = {"url", "url_transparent"}
_AGAIN = "run this command again"
_CHECK = f"check what is asked for, or {_AGAIN}"
_COOKIES = f"set download.cookies to those of an account that may see it, then {_AGAIN}"
_STEPS = {
    ErrorClass.LOGIN: _COOKIES,
    ErrorClass.PRIVATE: _COOKIES,
    ErrorClass.MEMBERS_ONLY: _COOKIES,
    ErrorClass.AGE: _COOKIES,
    ErrorClass.GEO: f"set download.proxy to one in a country where it is available, then {_AGAIN}",
    ErrorClass.TIMEOUT: _AGAIN,  # a list starts again
}


@dataclass(frozen=True)
class ListRequest:
    """A request to YouTube for a list of videos.

    Parameters
    ----------
    name : str
        Its name in messages: ``search cats``.
    target : str
        The input for yt-dlp: a link, or ``ytsearchall:…``.
    info : dict
        Part of the ``source_info`` of each video, in addition to its rank.
    source_type : str
        Of each video.
    """

    name: str
    target: str
    info: dict[str, Any] = field(default_factory=dict)
    source_type: str = "URL"


def search(query: str, filters: ListFilters) -> ListRequest:
    """Return the request for a search.

    Raises
    ------
    InputError
        If the query is empty, or contains a character that no query may have.
    """
    query = " ".join(query.split())
    if not query:
        raise InputError(query, "is an empty search")
    check_text(query)
    target = checks.search_target(query, filters)
    return ListRequest(f"search {printable(query)}", target, {"query": query}, "SEARCH")


def video_list_request(found: youtube.VideoList) -> ListRequest:
    """Return the request for a playlist, a channel, or a results page."""
    key = found.kind.replace(" ", "_")
    return ListRequest(f"{found.kind} {printable(found.url)}", found.url, {key: found.url})


def look_up(
    request: ListRequest,
    filters: ListFilters,
    settings: DownloadConfig,
    *,
    limiter: RateLimiter | None = None,
) -> Generator[Source | None, None, None]:
    """Request a list of videos from YouTube, one page at a time as they are consumed.

    Parameters
    ----------
    request : ListRequest
        The list.
    filters : ListFilters
        Which of its videos to return.
    settings : DownloadConfig
        Network settings.
    limiter : RateLimiter, optional
        Asked before each HTTP request; by default this process applies the limits alone.

    Yields
    ------
    Source or None
        One per entry, in YouTube's order; None for an entry that is not a video, is a duplicate, or
        fails the filters. ``source_info`` is ``request.info``, the rank from 1, and known facts.

    Raises
    ------
    TransientError
        NETWORK, RATE_LIMIT, BOT_CHECK, BLOCKED or TIMEOUT, even after the first pages.
    """
    options = _list_options(base_options(settings, lambda line: None), filters)
    limiter = limiter or LocalRateLimiter(settings.budget)
    try:
        with client(options, limiter=limiter, trusted=request.target) as ydl:
            yield from _sources(ydl, request, filters, limiter)
    except DataminerError:
        raise
    except Exception as error:  # yt-dlp could not parse the answer
        raise _failure(error, request) from error


def _sources(
    ydl: Any, request: ListRequest, filters: ListFilters, limiter: RateLimiter
) -> Iterator[Source | None]:
    known_ids: set[str] = set()
    for rank, entry in enumerate(_entries(_first_page(ydl, request.target)), start=1):
        if rank == 1:  # YouTube answers
            limiter.report_success()
        source = _source(entry, request, rank)
        if source is None or source.video_id in known_ids or not checks.admits(entry, filters):
            yield None
            continue
        known_ids.add(source.video_id)
        yield source


def _list_options(options: dict[str, Any], filters: ListFilters) -> dict[str, Any]:
    """Add options: omit unavailable videos from playlists, and add ages if a filter needs them."""
    options = {**options, "compat_opts": {"no-youtube-unavailable-videos"}}
    if filters.after or filters.before:
        arguments = options.get("extractor_args", {})
        ages = {**arguments.get("youtubetab", {}), "approximate_date": [""]}
        options["extractor_args"] = {**arguments, "youtubetab": ages}
    return options


def _first_page(ydl: Any, target: str) -> dict[str, Any]:
    """Request a list and follow yt-dlp from link to link; without processing, entries stay lazy."""
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


def _source(entry: dict[str, Any], request: ListRequest, rank: int) -> Source | None:
    video_id = _video_id(entry)
    if video_id is None:
        return None
    info = {**request.info, "rank": rank, **_about(entry)}
    return Source(
        video_id, SourceUrl(youtube.WATCH_URL.format(video_id)), request.source_type, info
    )


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
        "duration": checks.duration_of(entry),
    }
    return {key: value for key, value in about.items() if value}


def _text(value: Any) -> str:
    return clean(value, _MAX_TEXT) if isinstance(value, str) else ""


def _failure(error: Exception, request: ListRequest) -> DataminerError:
    cause = stage_error(error, request.name)
    passes = isinstance(cause, TransientError) and cause.error_class != ErrorClass.INTERNAL
    # the steps of failure classes are those after a run of snakemake
    usual = cause.hint.replace("run snakemake again", _AGAIN) if passes else _CHECK
    hint = _STEPS.get(cause.error_class, usual)
    error_class = cause.error_class if passes else ErrorClass.NETWORK
    return TransientError(inert(cause.message), error_class, hint)
