"""Filters of searches, playlists and channels: those that YouTube applies, and our own checks.

A list of videos says little about each of them: usually its duration; its age in whole days, weeks,
months or years; never its licence. Only what is certain here decides. A video in doubt passes, and
the download's policy decides.
"""

from __future__ import annotations

import base64
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from dataminer.config import ListFilters
from dataminer.ingest.youtube import SITE

_NOT_FINISHED = {"is_live", "is_upcoming"}
_CREATIVE_COMMONS = "creative commons"
_LONGEST = 10 * 366 * 86400.0  # seconds; no video is longer

# Fields and values of the message in a results page's `sp`, from protos/youtube/search_filter.proto
# of youtubei.js 16; the field VERBATIM, and VIDEO alone, as in yt-dlp.
_FILTERS, _VERBATIM = 2, 30
_UPLOAD_DATE, _TYPE, _DURATION, _CREATIVE_COMMONS_ONLY = 1, 2, 3, 6
_VIDEO = 1
_UPLOADED_WITHIN = [(7, 3), (28, 4), (365, 5)]  # days, value
_OVER_20_MINUTES, _UNDER_3_MINUTES, _3_TO_20_MINUTES = 2, 4, 5

# "3 weeks ago": as a video gets older, YouTube gives its age in larger units. Each entry: an age in
# days below which YouTube uses this unit or a smaller one, and the unit's days.
_UNIT_DAYS = [(6, 1), (26, 7), (360, 31)]
_YEAR_DAYS = 366


def day(text: str) -> date:
    """Turn a day of the settings, ``2024-01-31`` or ``today-2years``, into a date (UTC)."""
    if text[0].isdigit():
        return date.fromisoformat(text)
    from yt_dlp.utils import date_from_str

    found: date = date_from_str(text)
    return found


def search_target(query: str, filters: ListFilters, today: date | None = None) -> str:
    """Return the search as a target for yt-dlp.

    Parameters
    ----------
    query : str
        As typed into YouTube's search box.
    filters : ListFilters
        Those that YouTube supports go into the results page's ``sp``, but only in classes that
        exclude no video that the filters allow. The exact checks follow.
    today : date, optional
        In UTC.

    Returns
    -------
    str
        ``ytsearchall:…``, or the link of a results page if YouTube applies filters.
    """
    inner = {_TYPE: _VIDEO, **_youtube_filters(filters, today or datetime.now(UTC).date())}
    if len(inner) == 1:
        return f"ytsearchall:{query}"
    return f"{SITE}/results?{urlencode({'search_query': query, 'sp': _sp(inner)})}"


def admits(entry: dict[str, Any], filters: ListFilters, now: datetime | None = None) -> bool:
    """Return whether the filters admit a video of a list, as far as the list describes it.

    Parameters
    ----------
    entry : dict
        A flat entry from yt-dlp.
    filters : ListFilters
        The filters.
    now : datetime, optional
        In UTC; the ages of videos are relative to it.

    Returns
    -------
    bool
        False if the entry certainly fails a filter, and for streams that have not ended.
    """
    if entry.get("live_status") in _NOT_FINISHED:
        return False
    licence = entry.get("license")
    stated = isinstance(licence, str) and filters.licence != "any"
    if stated and _CREATIVE_COMMONS not in str(licence).lower():
        return False
    return _lasts(duration_of(entry), filters) and _uploaded(
        entry, filters, now or datetime.now(UTC)
    )


def duration_of(entry: dict[str, Any]) -> float | None:
    """Return an entry's duration in seconds, or None if it has no plausible one."""
    value = entry.get("duration")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 < value < _LONGEST else None


def _youtube_filters(filters: ListFilters, today: date) -> dict[int, int]:
    found: dict[int, int] = {}
    if filters.after:
        age = (today - day(filters.after)).days + 1  # a day more: YouTube's day may end later
        value = next((value for days, value in _UPLOADED_WITHIN if age < days), None)
        found |= {_UPLOAD_DATE: value} if value else {}
    low, high = (filters.min_duration or 0), (filters.max_duration or math.inf)
    if low > 20 * 60:
        found[_DURATION] = _OVER_20_MINUTES
    elif high < 3 * 60:
        found[_DURATION] = _UNDER_3_MINUTES
    elif low > 3 * 60 and high < 20 * 60:
        found[_DURATION] = _3_TO_20_MINUTES
    if filters.licence == "creative_commons":
        found[_CREATIVE_COMMONS_ONLY] = 1
    return found


def _sp(inner: dict[int, int]) -> str:
    message = b"".join(_varints(number, inner[number]) for number in sorted(inner))
    whole = bytes([_FILTERS << 3 | 2, len(message)]) + message + _varints(_VERBATIM, 1)
    return base64.b64encode(whole).decode()


def _varints(number: int, value: int) -> bytes:
    """Encode a field of a protobuf message: its tag, of one or two bytes, and a small value."""
    tag = number << 3
    return bytes([tag, value] if tag < 128 else [tag & 127 | 128, tag >> 7, value])


def _lasts(seconds: float | None, filters: ListFilters) -> bool:
    if seconds is None:
        return True
    low, high = filters.min_duration, filters.max_duration
    return (low is None or seconds >= low) and (high is None or seconds <= high)


def _uploaded(entry: dict[str, Any], filters: ListFilters, now: datetime) -> bool:
    if not (filters.after or filters.before):
        return True
    bounds = _upload_days(entry, now)
    if bounds is None:
        return True
    earliest, latest = bounds
    too_old = filters.after is not None and latest < day(filters.after)
    too_new = filters.before is not None and earliest > day(filters.before)
    return not (too_old or too_new)


def _upload_days(entry: dict[str, Any], now: datetime) -> tuple[date, date] | None:
    """Return the first and the last day on which an entry may have been uploaded."""
    try:
        stated = entry.get("upload_date")
        if stated:
            exact = datetime.strptime(str(stated), "%Y%m%d").date()
            return exact, exact
        # yt-dlp turns "3 weeks ago" into now minus 3 weeks, though it may be nearly 4
        latest = datetime.fromtimestamp(float(entry["timestamp"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
    age = (now - latest).days
    unit = next((unit for days, unit in _UNIT_DAYS if age < days), _YEAR_DAYS)
    grace = timedelta(days=1)  # yt-dlp rounds to a day, which depends on the time zone
    longer = timedelta(days=_calendar_days(age, unit))
    return (latest - timedelta(days=unit) - grace).date(), (latest + longer + grace).date()


def _calendar_days(age: int, unit: int) -> int:
    """Return how many days yt-dlp's months or years may exceed those of 30 or 365 days."""
    if unit == _YEAR_DAYS:
        return age // 1461 + 1
    return age // 30 if unit > 7 else 0
