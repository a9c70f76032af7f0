"""Pages and commands of a project whose every text is hostile: nothing runs, all can be read."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dataminer.config import FilterConfig, MonitorConfig
from dataminer.formats.contact_sheet import contact_sheet
from dataminer.monitor import status, story
from dataminer.monitor.terminal import live, story_text, summary
from dataminer.preview.measures import gather_preview
from dataminer.preview.page import write_page
from dataminer.report import REPORT_FILE
from dataminer.report.html.page import write_report
from dataminer.store.layout import Store
from dataminer.sync.jobs.report import read_facts
from tests.support import hostile_texts as hostile
from tests.support.fixtures_browser import Opened
from tests.support.live_page import serving
from tests.support.postgres import fresh_database

LONGEST = 2100  # characters of a text in a page
WIDTHS = (1200, 360)
# The elements that pages have
_NAMES = """html head meta title link body header main section footer h1 h2 h3 p a b code small span
div dl dt dd table thead tbody tr th td figure figcaption details summary button"""
TEXT = set(re.findall(r"\w+", _NAMES))
DRAWN = TEXT | set(re.findall(r"\w+", "style svg path rect text line g img br i"))
REPORT = DRAWN | {"script", "nav", "bdi"}
LIVE = TEXT | {"script", "noscript", "label", "select", "option", "input", "progress"}
LIVE |= {"dialog", "pre"}
# What no page of ours has: a marker of code that ran, elements and attributes that texts smuggled
# in, what leads elsewhere, endless or steering lines, and what is wider than its place
VIEW = """() => {
  const all = [...document.querySelectorAll("*")];
  const code = all.filter((one) => ["SCRIPT", "STYLE"].includes(one.tagName));
  const attributes = all.flatMap((one) => [...one.attributes]);
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_TEXT), texts = [];
  while (walker.nextNode())
    if (!code.includes(walker.currentNode.parentNode)) texts.push(walker.currentNode.data);
  const told = attributes.filter((one) => !["src", "d"].includes(one.name));
  texts.push(...told.map((one) => one.value));
  const lines = texts.flatMap((one) => one.split("\\n"));
  const steers = /(?!\\t)[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Zl}\\p{Zp}]/u;
  const having = (name) => all.filter((one) => one.hasAttribute(name));
  const boxes = all.filter((one) => one.matches("section, figure, dd, dt, p, h1, h2, dialog")
    && !one.closest(".tablebox, .wide, nav, pre"));
  return {
    ran: window.ran ?? null,
    title: document.title,
    policy: document.querySelector("meta[http-equiv=Content-Security-Policy]")?.content ?? "",
    elements: [...new Set(all.map((one) => one.tagName.toLowerCase()))],
    code: code.length,
    attributes: [...new Set(attributes.map((one) => one.name))].filter(
      (name) => name.startsWith("on") || ["style", "autofocus", "tabindex"].includes(name)),
    links: having("href").map((one) => one.getAttribute("href")),
    sources: having("src").map((one) => one.getAttribute("src")),
    steering: lines.filter((one) => steers.test(one)),
    longest: Math.max(...lines.map((one) => one.length)),
    wide: document.documentElement.scrollWidth - innerWidth,
    wider: boxes.filter((one) => one.scrollWidth > one.clientWidth + 1).map(
      (one) => one.outerHTML.slice(0, 200)),
  };
}"""


@dataclass
class HostileProject:
    """The project, its pages, and the folder of its logs."""

    url: str
    folder: Path
    store: Store
    report: Path
    preview: Path


@pytest.fixture(scope="module")
def made(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostileProject]:
    folder = tmp_path_factory.mktemp("hostile")
    store = Store(folder / "data")
    with fresh_database(server, template, "hostile") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        settings = hostile.make(store, url, folder)
        report = store.report(hostile.PROJECT) / REPORT_FILE
        write_report(store, read_facts(hostile.PROJECT), report, settings=settings)
        preview = folder / "preview.html"
        tried = FilterConfig(min_sharpness=0.2)
        write_page(preview, gather_preview(store, hostile.PROJECT, FilterConfig(), tried))
        yield HostileProject(url, folder, store, report, preview)


@pytest.fixture
def hostile_project(made: HostileProject, monkeypatch: pytest.MonkeyPatch) -> HostileProject:
    monkeypatch.setenv("DATABASE_URL", made.url)
    monkeypatch.chdir(made.folder)
    return made


def steering(text: str) -> set[str]:
    """Return the characters of a text that a terminal would obey or hide."""
    unsafe = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return {c for c in text if c not in "\n\t" and unicodedata.category(c) in unsafe}


# ---- in a browser ------------------------------------------------------------------------------


def check_page(opened: Opened, title: str, elements: set[str], code: int) -> None:
    """Look at the page that is open, in a wide and in a narrow window."""
    for width in WIDTHS:
        opened.page.set_viewport_size({"width": width, "height": 900})
        seen = opened.page.evaluate(VIEW)
        assert (seen["ran"], seen["title"]) == (None, title)
        assert "unsafe" not in seen["policy"]
        assert set(seen["elements"]) - elements == set()
        assert (seen["code"], seen["attributes"], seen["steering"]) == (code, [], [])
        beginnings = ("#", "data:,", "page.css", f"https://{hostile.OTHER_HOST}/%22%20onclick")
        assert [
            link for link in seen["links"] if not link.startswith((*beginnings, "report/"))
        ] == []
        assert all(one.startswith("data:image/jpeg;base64,") for one in seen["sources"]) or (
            seen["sources"] == ["page.js"]
        )
        assert seen["longest"] <= LONGEST
        assert (seen["wide"], seen["wider"]) == (0, []), width
    assert opened.printed == []


@pytest.mark.browser
def test_the_report(hostile_project: HostileProject, opened: Opened) -> None:
    opened.page.goto(hostile_project.report.as_uri())
    check_page(opened, "birds: dataminer report", REPORT, code=2)
    assert opened.away(hostile_project.report.as_uri()) == []
    assert hostile_project.report.stat().st_size < 3_000_000
    opened.page.click("#objects .pager button:last-child")  # our own script did run


@pytest.mark.browser
def test_the_preview(hostile_project: HostileProject, opened: Opened) -> None:
    opened.page.goto(hostile_project.preview.as_uri())
    check_page(opened, "Thresholds of birds", DRAWN, code=1)
    assert opened.away(hostile_project.preview.as_uri()) == []
    assert opened.page.locator("figure img").count() > 6
    parts = opened.page.eval_on_selector_all(".bar div", "all => all.map(one => one.offsetWidth)")
    assert len(set(parts)) > 1, "each is as wide as its share"


@pytest.mark.browser
def test_the_live_page_and_what_it_opens(hostile_project: HostileProject, opened: Opened) -> None:
    page = opened.page
    with serving(hostile_project.store) as served:
        page.goto(served.url)
        for number in range(len(hostile.URLS)):
            page.click(f"#list [data-video=video0000{number}]")
            page.wait_for_selector("#story dl.facts")
            assert "onfocus" in page.inner_text("#story-title")
            check_page(opened, "dataminer monitor", LIVE, code=1)
            page.click("#close")
        page.goto(f"{served.url}report/birds")
        check_page(opened, "birds: dataminer report", REPORT, code=2)
        assert opened.away(served.url) == []


# ---- elsewhere ---------------------------------------------------------------------------------


def test_the_contact_sheet(hostile_project: HostileProject) -> None:
    sheet = hostile_project.folder / "sheet.jpg"
    assert contact_sheet(hostile_project.store.detect(hostile.PROJECT), sheet) > 1
    with Image.open(sheet) as picture:
        assert picture.width == 2082


def outputs(hostile_project: HostileProject) -> dict[str, Any]:
    """Return what each command prints."""
    live_monitor = live.Monitor([], MonitorConfig(), read_only=True, store=hostile_project.store)
    printed = {name: io.StringIO() for name in ("status", "monitor", "summary", "why", "failed")}
    status.print_status([], printed["status"])
    live.print_view(live_monitor.read(), printed["monitor"])
    summary.print_summary([], printed["summary"], hostile_project.store, summary.RunOutcome())
    story_text.print_story(story.story("video00000", hostile_project.store), printed["why"])
    story_text.print_story(story.story("video00001", hostile_project.store), printed["failed"])
    return {name: file.getvalue() for name, file in printed.items()}


def test_what_commands_print_steers_no_terminal(hostile_project: HostileProject) -> None:
    for name, text in outputs(hostile_project).items():
        assert steering(text) == set(), name
        assert "onfocus" in text, name
        if name not in {"why", "failed"}:
            assert len(text) < 20_000, f"{name} cuts what `why` tells in full"
