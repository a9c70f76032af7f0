"""Filters of lists: what YouTube is asked for leaves out nothing that the exact checks let pass."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataminer.config import ListFilters
from dataminer.ingest import filters as module
from dataminer.ingest.filters import admits, day, search_target

NOW = datetime(2025, 6, 15, 12, tzinfo=UTC)
NOON = NOW.replace(tzinfo=None)
HEAD, TAIL = b"\x12", b"\xf0\x01\x01"  # field 2, its length and bytes; field 30: 1


def requested(**settings: Any) -> dict[int, int]:
    """Return the fields that YouTube is asked for."""
    target = search_target("a&b c", ListFilters(**settings), NOW.date())
    if target == "ytsearchall:a&b c":
        return {}
    query = parse_qs(urlsplit(target).query)
    assert query["search_query"] == ["a&b c"]
    raw = base64.b64decode(query["sp"][0])
    assert (raw[:1], raw[1], raw[-3:]) == (HEAD, len(raw) - 5, TAIL)
    fields = raw[2:-3]
    found = {tag >> 3: value for tag, value in zip(fields[::2], fields[1::2], strict=True)}
    assert list(found) == sorted(found)
    assert found.pop(2) == 1  # videos only
    return found


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({}, {}),
        ({"licence": "creative_commons"}, {6: 1}),
        ({"min_duration": 1201}, {3: 2}),
        ({"min_duration": 1200}, {}),  # one of exactly 20 minutes would be lost
        ({"max_duration": 179}, {3: 4}),
        ({"max_duration": 180}, {}),
        ({"min_duration": 200, "max_duration": 900}, {3: 5}),
        ({"min_duration": 60, "max_duration": 900}, {}),
        ({"after": "2025-06-14"}, {1: 3}),
        ({"after": "2025-06-09"}, {1: 4}),
        ({"after": "2025-06-01"}, {1: 4}),
        ({"after": "2025-01-01"}, {1: 5}),
        ({"after": "2024-06-15"}, {}),
        ({"before": "2025-06-14"}, {}),
        (
            {"after": "2025-06-14", "max_duration": 60, "licence": "creative_commons"},
            {1: 3, 3: 4, 6: 1},
        ),
    ],
)
def test_what_youtube_is_asked_for(settings: dict[str, Any], fields: dict[int, int]) -> None:
    assert requested(**settings) == fields


def test_the_message_is_spelled_as_yt_dlp_spells_its_own() -> None:
    from yt_dlp.extractor.youtube import YoutubeSearchIE

    assert module._sp({2: 1}) == YoutubeSearchIE._SEARCH_PARAMS


@pytest.mark.parametrize(
    ("entry", "settings", "passes"),
    [
        ({}, {"min_duration": 10, "after": "2020-01-01", "licence": "creative_commons"}, True),
        ({"duration": 9.9}, {"min_duration": 10}, False),
        ({"duration": 10}, {"min_duration": 10, "max_duration": 10}, True),
        ({"duration": 11}, {"max_duration": 10}, False),
        ({"duration": "11"}, {"max_duration": 10}, True),
        ({"duration": True}, {"min_duration": 10}, True),
        ({"duration": float("nan")}, {"max_duration": 10}, True),
        ({"duration": -1}, {"min_duration": 10}, True),
        ({"upload_date": "20200101"}, {"after": "2020-01-01", "before": "2020-01-01"}, True),
        ({"upload_date": "20191231"}, {"after": "2020-01-01"}, False),
        ({"upload_date": "20200102"}, {"before": "2020-01-01"}, False),
        ({"upload_date": "last year"}, {"before": "2020-01-01"}, True),
        ({"timestamp": "x"}, {"before": "2020-01-01"}, True),
        ({"timestamp": 1e30}, {"before": "2020-01-01"}, True),
        ({"timestamp": NOW.timestamp()}, {"before": "2020-01-01"}, False),
        ({"timestamp": 0}, {"after": "2020-01-01"}, False),
        ({"license": "Creative Commons Attribution"}, {"licence": "creative_commons"}, True),
        ({"license": "Standard"}, {"licence": "creative_commons"}, False),
        ({"license": "Standard"}, {}, True),
        ({"live_status": "is_live"}, {}, False),
        ({"live_status": "is_upcoming"}, {}, False),
        ({"live_status": "was_live"}, {}, True),
    ],
)
def test_what_a_list_tells_decides(
    entry: dict[str, Any], settings: dict[str, Any], passes: bool
) -> None:
    assert admits(entry, ListFilters(**settings), NOW) is passes


def reported(days: int, *, weeks_from: int) -> str:
    """Say an age as YouTube does: in whole units, rounded down."""
    for unit, size, start in [
        ("year", 365, 365),
        ("month", 30, 30),
        ("week", 7, weeks_from),
        ("day", 1, 1),
    ]:
        if days >= start:
            return f"{days // size} {unit}s ago"
    return "5 hours ago"


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),
    st.integers(0, 5000),
    st.sampled_from([7, 14]),
    st.integers(0, 800),
    st.integers(0, 800),
)
@example(NOON, 13, 7, 100, 0)
@example(NOON, 364, 7, 100, 0)
@example(NOON, 729, 7, 100, 0)
@example(datetime(2026, 11, 23, 7), 90, 7, 0, 0)  # three months of the calendar are 92 days
@example(datetime(2025, 3, 1, 13), 4745, 7, 0, 0)
def test_a_video_that_fits_is_never_left_out_for_its_rounded_age(
    today: datetime, age: int, weeks_from: int, older: int, newer: int
) -> None:
    """Ages as YouTube tells them, read by yt-dlp's own code on any day."""
    from yt_dlp.extractor.youtube import YoutubeTabIE
    from yt_dlp.utils import _utils

    now = today.replace(tzinfo=UTC)
    clock = type("Clock", (datetime,), {"now": staticmethod(lambda _: now)})
    uploaded = now - timedelta(days=age)
    with mock.patch.object(_utils, "dt", SimpleNamespace(**{**vars(_utils.dt), "datetime": clock})):
        stamp = YoutubeTabIE()._parse_time_text(reported(age, weeks_from=weeks_from))
    fits = ListFilters(
        after=(uploaded - timedelta(days=older)).date(),
        before=(uploaded + timedelta(days=newer)).date(),
    )
    assert admits({"timestamp": stamp}, fits, now)
    far = timedelta(days=age // 2 + 400)  # beyond any rounding
    assert not admits({"timestamp": stamp}, ListFilters(after=(uploaded + far).date()), now)
    assert not admits({"timestamp": stamp}, ListFilters(before=(uploaded - far).date()), now)


def test_days() -> None:
    assert day("2024-01-31").isoformat() == "2024-01-31"
    assert day("today-2weeks") == datetime.now(UTC).date() - timedelta(days=14)
    assert ListFilters(after="20240131").after == "2024-01-31"
