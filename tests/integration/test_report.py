"""The report of a large project is a small page."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataminer.report.data.facts import ProjectFacts, VideoFacts
from dataminer.report.data.gather import gather
from dataminer.report.html.page import page
from dataminer.report.html.thumbs import Thumbnails
from dataminer.store.layout import Store
from dataminer.urls import SourceUrl
from tests.support.report_project import draw_pictures, make_project


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def test_the_page_stays_small_at_100_000_frames(store: Store) -> None:
    facts = make_project(store, "birds", videos=20, frames=5000)
    found = gather(store, facts, {}, store.root)
    assert sum(found.frames.extracted.values()) == 100_000
    assert draw_pictures(store, found) > 60
    drawn = page(found, Thumbnails(store, "birds"))
    assert drawn.count("<img") > 60
    assert len(drawn.encode()) < 3_000_000


def test_the_page_stays_small_with_many_objects_failures_and_long_texts(store: Store) -> None:
    made = make_project(store, "birds", videos=1, frames=200, boxes=300)
    long = "x" * 10_000
    failed = (
        VideoFacts(
            f"f{n}", SourceUrl(f"https://x/{long}"), long, "FAILED", "FAILED", "empty", long, long
        )
        for n in range(1000)
    )
    facts = ProjectFacts("birds", "COMPLETE", (*made.videos, *failed))
    found = gather(store, facts, {}, store.root)
    draw_pictures(store, found)
    drawn = page(found, Thumbnails(store, "birds"))
    assert "40 of 300 objects" in drawn
    assert "200 of 1,001 are listed" in drawn
    assert len(drawn.encode()) < 3_000_000
