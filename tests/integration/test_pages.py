"""The report and the live page, as a server gives them and as a browser shows them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from dataminer.config import MonitorConfig
from dataminer.errors import DataminerError, ErrorClass, PermanentError, advice
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.monitor.terminal.live import Monitor
from dataminer.monitor.videos import PAGE, VideoQuery, videos
from dataminer.monitor.web import server as web
from dataminer.report import REPORT_FILE
from dataminer.report.data.gather import gather
from dataminer.report.html.page import write_report
from dataminer.store.layout import Store
from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.claims import projects, stage_rows
from dataminer.sync.claims.owners import owner_name
from dataminer.sync.jobs.report import read_facts
from tests.support.fixtures_browser import Opened
from tests.support.live_page import Served, serving
from tests.support.paths import ROOT
from tests.support.postgres import execute, fresh_database
from tests.support.report_project import draw_pictures, make_project
from tests.support.rows import add, downloaded, extracted, failed, filtered, held, silence, versions

if TYPE_CHECKING:  # tests without it are skipped
    from playwright.sync_api import Page

TITLE = "<script>document.title = 'taken over'</script><img src=//evil.example/x>\"'"


@pytest.fixture
def birds(database: str) -> str:
    """A project in which everything happens at once, with a stranger's title."""
    return fill(database)


def fill(database: str) -> str:
    """Add the project to the database that DATABASE_URL names."""
    project = add("birds", *(f"v{n}" for n in range(5)))
    extracted("v0", frames=100)
    filtered("v0", project, passed=90)
    downloaded("v1")
    held(stage_rows.EXTRACT, video_id="v1")
    error = f"{TITLE} has no bytes. Next: put another file there"
    failed("v2", {"error": error, "error_class": "empty"})
    execute(database, f"UPDATE videos SET title = $${TITLE}$$ WHERE video_id = 'v2'")
    projects.refresh([project])
    return database


@pytest.fixture
def live(birds: str, tmp_path: Path) -> Iterator[Served]:
    """A live page whose database and files a test may change."""
    with serving(Store(tmp_path / "data")) as served:
        yield served


@pytest.fixture(scope="module")
def kept(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Served]]:
    with fresh_database(server, template, "pages") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        fill(url)
        with serving(Store(tmp_path_factory.mktemp("pages") / "data")) as served:
            yield url, served


@pytest.fixture
def still(kept: tuple[str, Served], monkeypatch: pytest.MonkeyPatch) -> Served:
    """The live page of all tests that only read."""
    url, served = kept
    monkeypatch.setenv("DATABASE_URL", url)
    return served


# ---- who may ask -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/", "/wrong/", "//", "/{most}/", "/{token}x/now.json", "/now.json", "/%C3%A9/", "/%00/"],
)
def test_without_the_token_there_is_nothing(still: Served, path: str) -> None:
    token = still.root.strip("/")
    path = path.format(token=token, most=token[:-1])
    status, _, body = still.ask(path)
    assert (status, b"birds" in body) == (403, False)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_name_for_this_machine_is_refused(still: Served, host: str) -> None:
    """A page of another site that rebinds its name to 127.0.0.1 still sends its own name."""
    assert still.ask(still.root, host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1:1234", "localhost"])
def test_a_tunnel_may_end_at_another_port(still: Served, host: str) -> None:
    assert still.ask(still.root, host=host)[0] == 200


def test_only_this_machine_is_listened_to(still: Served) -> None:
    other = socket.gethostbyname_ex(socket.gethostname())[2]
    for address in {*other, "127.0.0.2"} - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((address, still.port), timeout=5):
            pass


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_reading_is_understood(still: Served, method: str) -> None:
    assert still.ask(still.root, method=method)[0] == 501


def test_each_answer_forbids_what_the_page_does_not_need(still: Served) -> None:
    for path in ("", "now.json", "nosuch"):
        _, headers, _ = still.ask(still.root + path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers


def test_a_port_that_is_taken_ends_with_a_sentence(still: Served) -> None:
    live_monitor = Monitor(["birds"], MonitorConfig(), read_only=True)
    with pytest.raises(DataminerError, match=f"port {still.port} cannot be used"):
        web.serve(web.Site(live_monitor, [], still.store, 1.0), still.port)


# ---- what is shown -----------------------------------------------------------------------------


def test_looking_changes_nothing_though_claims_are_stale(live: Served, birds: str) -> None:
    silence(birds)
    before = versions(birds)
    now = live.json("now.json")
    while now["claims"][0]["heartbeat_age"] < now["stale_seconds"]:  # until it looks again
        now = live.json("now.json")
    live.json("videos.json")
    live.json("why.json?video=v1")
    assert versions(birds) == before


def test_the_numbers_are_those_of_the_monitor(still: Served) -> None:
    now = still.json("now.json")
    (project,) = now["projects"]
    assert (project["name"], project["total_videos"], project["videos_failed"]) == ("birds", 5, 1)
    assert now["rates"]["birds"]["filtered"] == 1
    (found,) = now["classes"]
    assert (found["name"], found["count"], found["kind"]) == ("empty", 1, "permanent")
    assert found["next_step"] == advice("empty", "v", ["birds"])
    assert now["reports"] == []


def test_what_takes_a_failed_video_out_is_filled_in(birds: str, tmp_path: Path) -> None:
    error = PermanentError("/x/y.mp4 is not there", ErrorClass.MISSING_SOURCE)
    failed("v3", {"error": str(error), "error_class": error.error_class})
    now = web.page_data(Monitor(["birds"], MonitorConfig(), read_only=True).read())
    (step,) = [found["next_step"] for found in now["classes"] if found["name"] == "missing_source"]
    assert step.endswith("`dataminer delete-videos --class missing_source --project birds`")
    shown = [failure["error"] for failure in now["failures"]]
    assert any("`dataminer delete-videos v3 --project birds`" in text for text in shown)
    write_report(Store(tmp_path), read_facts("birds"), tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    assert "dataminer delete-videos v3 --project birds" in report
    assert "dataminer delete-videos --class missing_source --project birds" in report


def test_a_story_is_the_one_that_why_tells(still: Served) -> None:
    reported = still.json("why.json?video=v2")
    assert reported["video"]["title"] == TITLE
    assert reported["next_step"] == advice("empty", "v", ["birds"])
    status, _, body = still.ask(still.root + "why.json?video=nosuch%00")
    assert status == 503
    assert "there is no video nosuch" in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=failed", {"v2"}),
        ("state=done", {"v0"}),
        ("state=working", {"v1"}),
        ("state=waiting", {"v3", "v4"}),
        ("text=SCRIPT", {"v2"}),
        ("text=%25", set()),
        ("text='%20OR%201=1--", set()),
        ("project=fish", set()),
        ("state=nosuch&page=-1&text=%00", {"v0", "v1", "v2", "v3", "v4"}),
        ("page=99999999999999999999", {"v0", "v1", "v2", "v3", "v4"}),
    ],
)
def test_videos_can_be_chosen(still: Served, query: str, expected: set[str]) -> None:
    found = still.json(f"videos.json?{query}")
    assert {row["video_id"] for row in found["rows"]} == expected
    assert found["total"] == len(expected)


def test_many_videos_come_by_the_page(database: str) -> None:
    add("many", *(f"v{n:03d}" for n in range(2 * PAGE + 1)))
    pages = [videos(VideoQuery(project="many", page=number), []) for number in range(3)]
    assert [len(page["rows"]) for page in pages] == [PAGE, PAGE, 1]
    assert len({row["video_id"] for page in pages for row in page["rows"]}) == 2 * PAGE + 1
    assert pages[0]["pages"] == 3


def test_projects_that_were_not_asked_for_are_not_shown(live: Served) -> None:
    add("secret", "v0", "s1")
    assert live.json("videos.json")["total"] == 5
    assert live.json("videos.json?project=secret")["rows"] == []
    write_report(live.store, read_facts("secret"), live.store.report("secret") / REPORT_FILE)
    for path in ("report/secret", "report/birds", "report/../secret", "report/"):
        assert live.ask(live.root + path)[0] == 404


def test_a_database_that_is_away_is_told_and_asked_again(
    live: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = live.json("now.json")
    with monkeypatch.context() as away:
        away.setenv("DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/x")
        now = before
        while now["trouble"] is None:
            now = live.json("now.json")
        assert now["projects"] == before["projects"]
        assert "secret" not in now["trouble"]
        assert live.ask(live.root + "videos.json")[0] == 503
    while live.json("now.json")["trouble"]:
        pass


def test_the_command_says_how_to_get_there_and_ends_with_ctrl_c(birds: str) -> None:
    command = [sys.executable, "-m", "dataminer.cli.main", "monitor", "--web", "--project", "birds"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        printed = [process.stdout.readline() for _ in range(3)]
        url = re.search(r"http://127\.0\.0\.1:(\d+)/[\w-]{32}/", printed[0])
        assert url, printed
        assert f"ssh -L {url[1]}:127.0.0.1:{url[1]} " in printed[1]
        served = Served(url[0], Store(Path("data")))
        assert served.ask(served.root)[0] == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "ended" in out


def test_a_report_is_drawn_at_any_stage_by_hand(birds: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataminer.cli.main", "report"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def report(project: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, project], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    done = report("birds")
    assert done.stdout.startswith("data/projects/birds/report/index.html: 0.0 MB"), done.stderr
    page = (tmp_path / "data/projects/birds/report/index.html").read_text()
    assert "FILTERING" in page
    assert "Dedup and detect have not run yet" in page
    assert "<script>document.title" not in page
    missing = report("fish")
    assert missing.returncode == 1
    assert "there is no project fish. Next: " in missing.stderr


# ---- in a browser ------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_live_page_in_a_browser(live: Served, opened: Opened) -> None:
    page = opened.page
    write_report(live.store, read_facts("birds"), live.store.report("birds") / REPORT_FILE)
    page.goto(live.url)
    page.wait_for_selector("#list [data-video=v2]")
    assert "5 videos, page 1 of 1" in page.inner_text("#where")
    assert "extracting" in page.inner_text("#claims")
    assert page.title() == "dataminer monitor"
    page.click("#list [data-video=v2]")
    page.wait_for_selector("#story dl.facts")
    assert page.inner_text("#story-title") == TITLE
    assert "put another file there" in page.inner_text("#story-body")
    assert page.query_selector_all("img, #story script") == []
    page.click("#close")
    # the page follows the database by itself
    add("birds", "v9")
    page.wait_for_selector("#list [data-video=v9]")
    page.select_option("#state", "failed")
    page.wait_for_selector("#list tr:only-child [data-video=v2]")
    assert page.get_attribute(".project a", "href") == "report/birds"
    assert opened.printed == []
    assert opened.away(live.url) == []


@pytest.mark.browser
def test_a_run_at_work_is_shown_as_its_terminal_shows_it(
    live: Served, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(".snakemake", "dataminer", "20260101-000000-abcdef")
    folder.mkdir(parents=True)
    members = {"download": {"b": ["v0", "v1"]}}
    BatchList(
        folder, members, owner_name(), 2, datasets={"birds": ["dedup"]}, projects=["birds"]
    ).write()
    opened.page.goto(live.url)
    opened.page.wait_for_selector("#runs .step")
    reported = opened.page.inner_text("#runs")
    assert "run at work" in reported
    assert "of 2" in reported
    assert "dedup waiting" in reported
    assert opened.printed == []


@pytest.mark.browser
def test_losses_and_conversions_are_shown_per_project_and_video(
    database: str, tmp_path: Path, opened: Opened
) -> None:
    project = add("birds", "v")
    extracted("v", extract_fingerprint="b", notes={"tone_mapped": 1200, "<i>x</i>": 2})
    used = {"lost_packets": 3, "deinterlaced": 7}
    filtered("v", project, recipe="a", source_notes=used)
    folder = Store(tmp_path / "data").filtered("birds", "v")
    folder.mkdir(parents=True)
    meta = {"rejected": {"min_sharpness": 1, "damaged": 4, "max_black": 0}}
    write_table(folder / FRAMES_FILE, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, meta)
    with serving(Store(tmp_path / "data")) as served:
        page = opened.page
        page.goto(served.url)
        rows = page.locator("#notes tbody tr")
        rows.first.wait_for()
        assert rows.all_inner_texts() == [
            "birds\t3\tpackets gave no frame\t1",
            "birds\t7\tframes were deinterlaced\t1",
        ]
        page.locator("[data-video=v]").first.click()
        facts = page.locator("#story-body dl.facts")
        facts.nth(1).wait_for()
        newest, of_project = (" ".join(text.split()) for text in facts.all_inner_texts())
        unknown = "2 <i>x</i> (a kind that this version does not know)"
        assert f"noted {unknown}; 1,200 frames were tone-mapped from HDR" in newest
        assert "noted 3 packets gave no frame; 7 frames were deinterlaced" in of_project
        assert "left out 4 damaged, 1 min_sharpness" in of_project
    assert opened.printed == []


def test_a_wrong_token_shows_nothing_in_a_browser(still: Served, opened: Opened) -> None:
    answer = opened.page.goto(still.url[:-2] + "/")
    assert answer and answer.status == 403
    assert "birds" not in opened.page.content()


@pytest.mark.browser
def test_the_live_page_opens_a_report(live: Served, opened: Opened) -> None:
    write_report(live.store, read_facts("birds"), live.store.report("birds") / REPORT_FILE)
    opened.page.goto(f"{live.url}report/birds")
    assert opened.page.inner_text("h1") == "birds"
    assert TITLE in opened.page.inner_text("#failures")
    assert opened.page.title() == "birds: dataminer report"
    assert opened.printed == []
    assert opened.away(live.url) == []


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a project with everything in it."""
    folder = tmp_path_factory.mktemp("report")
    store, path = Store(folder / "data"), folder / "index.html"
    made = make_project(store, "birds", videos=20, frames=60)
    draw_pictures(store, gather(store, made, {}, folder))
    write_report(store, made, path)
    return path


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_in_a_browser(
    opened: Opened, out: Path, scheme: Literal["light", "dark"]
) -> None:
    page = opened.page
    page.emulate_media(color_scheme=scheme)
    page.goto(out.as_uri())
    pictures = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert len(pictures) > 60
    assert min(pictures) > 100
    assert page.eval_on_selector_all("img", "all => all.every(one => one.alt)")
    shown = page.locator("#objects .shots figure:visible")
    first = shown.first.inner_text()
    assert shown.count() == 12
    page.click("#objects .pager button:last-child")
    assert shown.first.inner_text() != first
    assert page.locator("#videos tbody tr:visible").count() == 15
    assert contrast(page) >= 4.5
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0, "nothing reaches beyond the window"
    assert opened.printed == []
    assert opened.away(out.as_uri()) == []


def contrast(page: Page) -> float:
    """Return the least contrast (WCAG 2) of the text colours with what lies behind them."""
    names = ("ink", "faint", "accent", "bad", "good")
    code = "(name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name)"
    grounds = [luminance(page.evaluate(code, name)) for name in ("paper", "card")]
    texts = [luminance(page.evaluate(code, name)) for name in names]
    pairs = [(max(t, g), min(t, g)) for t in texts for g in grounds]
    return min((light + 0.05) / (dark + 0.05) for light, dark in pairs)


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rgb`` or ``#rrggbb``."""
    digits = colour.strip().removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[position : position + 2], 16) / 255 for position in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
