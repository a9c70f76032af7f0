from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dataminer.config.models import FilterConfig
from dataminer.preview.measures import gather
from dataminer.preview.page import write_page
from dataminer.store import Store
from tests.support.preview_project import PROJECT, TITLE, add_video, rows_of

CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_shows_it_and_asks_nobody_else(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    store = Store(tmp_path)
    for number, video_id in enumerate(("a", "b")):
        add_video(store, video_id, rows_of(video_id, 30, number))
    page_file = tmp_path / "index.html"
    settings = FilterConfig(min_sharpness=0.2)
    tried = settings.model_copy(update={"min_sharpness": 0.4})
    write_page(page_file, gather(store, PROJECT, settings, tried))
    told: list[str] = []
    asked: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        shown = page.evaluate(
            "[...document.images].map(i => i.complete && i.naturalWidth > 0).filter(Boolean).length"
        )
        assert shown == page.locator("figure img").count() > 12
        assert TITLE in page.locator("figcaption").first.inner_text()
        assert page.locator("section svg line.try").count() == 1
        page.set_viewport_size({"width": 420, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        browser.close()
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
