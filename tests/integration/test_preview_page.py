from __future__ import annotations

from pathlib import Path

import pytest

from dataminer.config.models import FilterConfig
from dataminer.preview.measures import gather_preview
from dataminer.preview.page import write_page
from dataminer.store.layout import Store
from tests.support.fixtures_browser import Opened
from tests.support.preview_project import PROJECT, TITLE, add_video, rows_of


@pytest.mark.browser
def test_a_browser_shows_it_and_asks_nobody_else(tmp_path: Path, opened: Opened) -> None:
    store = Store(tmp_path)
    for number, video_id in enumerate(("a", "b")):
        add_video(store, video_id, rows_of(video_id, 30, number))
    page_file = tmp_path / "index.html"
    settings = FilterConfig(min_sharpness=0.2)
    tried = settings.model_copy(update={"min_sharpness": 0.4})
    write_page(page_file, gather_preview(store, PROJECT, settings, tried))
    page = opened.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    shown = page.evaluate(
        "[...document.images].map(i => i.complete && i.naturalWidth > 0).filter(Boolean).length"
    )
    assert shown == page.locator("figure img").count() > 12
    assert TITLE in page.locator("figcaption").first.inner_text()
    assert page.locator("section svg line.try").count() == 1
    page.set_viewport_size({"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert opened.printed == []
    assert [url for url in opened.requested if not url.startswith("data:")] == [page_file.as_uri()]
