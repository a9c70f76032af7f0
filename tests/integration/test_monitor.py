"""The live view: what it shows, what it mends, and that read-only means it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from dataminer.config import MonitorConfig
from dataminer.errors import DatabaseError, DataminerError
from dataminer.monitor.progress.rates import paces
from dataminer.monitor.terminal import live
from dataminer.monitor.terminal.panels import owner_parts
from dataminer.sync.claims import claim_end, owners, projects, stage_rows
from tests.support.paths import ROOT
from tests.support.postgres import execute, fresh_database
from tests.support.rows import (
    add,
    downloaded,
    extracted,
    failed,
    filtered,
    finished,
    held,
    silence,
    versions,
)

CALM = MonitorConfig()
COMMAND = [sys.executable, "-m", "dataminer.cli.main", "monitor"]


def drawn(view: live.View, width: int = 80) -> str:
    out = io.StringIO()
    live.print_view(view, out, width)
    return out.getvalue()


def read_view(*names: str, settings: MonitorConfig = CALM, read_only: bool = False) -> live.View:
    return live.Monitor(names, settings, read_only=read_only).read()


def took(database: str, seconds: float) -> None:
    """Have all that was filtered have taken so long."""
    execute(
        database,
        "UPDATE project_videos SET costs = jsonb_build_object('filter', jsonb_build_object("
        f"'ended_at', extract(epoch FROM clock_timestamp()), 'seconds', {seconds}))"
        " WHERE status LIKE 'FILTERED%'",
    )


@pytest.fixture
def busy(database: str) -> str:
    """A project in which everything happens at once."""
    project = add("birds", *(f"v{n}" for n in range(8)))
    for n in range(4):
        extracted(f"v{n}", frames=100)
    for n in range(3):
        filtered(f"v{n}", project, passed=1000)
    took(database, 30)
    downloaded("v4")
    failed(
        "v5",
        {
            "error": "/data/[bold]x[/].mp4 has no bytes. Next: put another file there",
            "error_class": "empty",
        },
    )
    held(stage_rows.EXTRACT, video_id="v4")
    claim = held(stage_rows.DOWNLOAD, video_id="v6")
    claim_end.release(
        claim, error="HTTP 503. Next: wait a little", error_class="network", counts=False
    )
    return database


@pytest.mark.parametrize("width", [80, 140])
def test_the_view_tells_all_at_any_width(
    busy: str, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "8123456")
    held(stage_rows.DOWNLOAD, video_id="v7")
    text = drawn(read_view(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert re.search(r"birds +FILTERING +\d+\.\d videos/min, filtered in \d+ ", text)
    reported = {
        "pending": "2 of 8 videos",
        "downloaded": "5 of 8 videos",
        "extracted": "4 of 8 videos",
        "filtered": "3 of 8 videos",
        "unique": "0 of 3,000 frames",
        "annotated": "0 objects",
        "failed": "1 of 8 videos",
    }
    lines = [line.split() for line in text.splitlines()]
    for step, words in reported.items():
        (line,) = [
            line for line in lines if line[:1] == [step] and line[-1:] == [words.split()[-1]]
        ]
        assert " ".join(line).endswith(words), line
    host, pid, _ = owner_parts(owners.owner_name())
    assert re.search(rf"EXTRACTING +v4 +{host} +{pid} +\d s", text)
    assert re.search(rf"DOWNLOADING +v7 +{host} +{pid} +8123456 +\d s", text)
    assert "/data/[bold]x[/].mp4 has no bytes." in text, "a stranger's text is not markup"
    assert "→ put another file there" in text
    assert "→ wait a little" in text


def test_bars_are_as_long_as_their_counts(busy: str) -> None:
    text = drawn(read_view(), 140)
    full = next(line for line in text.splitlines() if line.startswith("downloaded")).count("━")
    part = next(line for line in text.splitlines() if line.startswith("filtered")).count("━")
    assert full / part == pytest.approx(5 / 3, rel=0.1)


def test_many_projects_get_a_line_each(busy: str) -> None:
    for n in range(5):
        add(f"more{n}", "v0", "v1")
    text = drawn(read_view())
    assert "6 projects" in text
    assert re.search(r"birds +FILTERING .* 3/8 +1 +\d", text)
    assert re.search(r"more4 +FILTERING .* 0/2 +0", text)
    assert "more4" not in drawn(read_view("birds"))


def test_a_finished_project_is_annotated_to_the_end(database: str) -> None:
    project = add("p", "v")
    extracted("v")
    filtered("v", project)
    projects.refresh([project])
    finished(
        stage_rows.DEDUP, "DETECT_READY", {"dedup_dir": "d", "unique_frames": 3}, project_id=project
    )
    finished(
        stage_rows.DETECT, "COMPLETE", {"detect_dir": "e", "annotations": 9}, project_id=project
    )
    text = drawn(read_view(), 100)
    assert "COMPLETE" in text
    assert "3 of 4 frames" in text
    bars = {line.split()[0]: line.count("━") for line in text.splitlines() if "━" in line}
    assert bars["annotated"] == bars["filtered"]
    assert "9 objects" in text


def test_a_look_gives_stale_claims_back_and_moves_stages_on(busy: str) -> None:
    silence(busy)
    view = read_view()
    assert [claim.key for claim in view.recovered] == ["v4"]
    assert view.seen.claims == []
    text = drawn(view)
    assert "released for jobs that died" in text
    assert "v4: EXTRACTING -> DOWNLOADED" in text
    assert view.seen.projects[0]["videos_extracted"] == 4
    assert execute(busy, "SELECT project_stage FROM projects") == [("FILTERING",)]


def test_read_only_changes_nothing(busy: str) -> None:
    silence(busy)
    before = versions(busy)
    view = read_view(read_only=True)
    assert versions(busy) == before
    assert view.recovered == []
    text = drawn(view)
    assert "read-only" in text
    assert re.search(r"EXTRACTING +v4 .* 1 h 00 min, stale", text)


def test_heartbeats_are_told_in_their_unit_and_called_stale_after_the_stale_minutes(
    database: str,
) -> None:
    # a slow machine may take seconds to look
    quiet_for = {0: r"\d+ s", 30: r"[345]\d s", 65: "1 min", 80: "1 min"}
    stale = {125: "2 min", 3500: "58 min", 5400: "1 h 30 min", 90_000: "25 h 00 min"}
    add("p", *(f"v{seconds}" for seconds in (*quiet_for, *stale)))
    for seconds in (*quiet_for, *stale):
        held(stage_rows.DOWNLOAD, video_id=f"v{seconds}")
    execute(
        database,
        "UPDATE videos SET"
        " heartbeat_at = now() - make_interval(secs => substr(video_id, 2)::float)",
    )
    lines = [line.strip() for line in drawn(read_view(read_only=True), 140).splitlines()]
    for seconds, printed in (
        *quiet_for.items(),
        *((s, f"{printed}, stale") for s, printed in stale.items()),
    ):
        (line,) = [line for line in lines if re.match(rf"DOWNLOADING +v{seconds} ", line)]
        assert re.search(rf" {printed}$", line), line
    of_an_hour = MonitorConfig(stale_threshold_minutes=60)
    text = drawn(read_view(settings=of_an_hour, read_only=True), 140)
    assert text.count(", stale") == 2


def test_json_has_the_status_and_the_rates(busy: str) -> None:
    reported = json.loads(json.dumps(read_view().as_json()))
    assert {
        "projects",
        "failures",
        "to_retry",
        "warnings",
        "notes",
        "claims",
        "pauses",
        "other_settings",
        "rates",
        "recovered",
        "runs",
    } == set(reported)
    rate = reported["rates"]["birds"]
    assert (rate["through"], rate["filtered"]) == (3, 3)
    assert rate["per_minute"] > 0
    assert rate["eta_seconds"] == pytest.approx(5 / rate["per_minute"] * 60)


def test_rates_are_taken_from_what_rows_say(database: str) -> None:
    project = add("p", "a", "b", "c")
    assert paces({"p": 3})["p"].per_minute == 0
    for name in ("a", "b"):
        extracted(name)
        filtered(name, project)
    took(database, 60)
    rate = paces({"p": 3})["p"]
    assert (rate.through, rate.filtered) == (2, 2)
    assert rate.per_minute == pytest.approx(2, rel=0.05), "two were made in the same minute"
    assert rate.eta_seconds == pytest.approx(30, rel=0.05)


def test_a_project_that_nobody_works_on_has_no_rate_and_is_promised_nothing(database: str) -> None:
    project = add("p", "a", "b")
    extracted("a")
    filtered("a", project)
    took(database, 60)
    for table in ("videos", "project_videos"):
        execute(database, f"ALTER TABLE {table} DISABLE TRIGGER USER")
        execute(database, f"UPDATE {table} SET updated_at = now() - interval '4 min'")
    rate = paces({"p": 2})["p"]
    assert (rate.through, rate.per_minute, rate.eta_seconds) == (1, 0, None)
    held(stage_rows.DOWNLOAD, video_id="b")
    assert paces({"p": 2})["p"].per_minute > 0, "somebody works on it again"


def test_a_database_that_is_away_is_said_and_asked_again(
    busy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_monitor = live.Monitor([], CALM)
    view = live_monitor.read()
    with monkeypatch.context() as away:
        away.setenv("DATABASE_URL", "postgresql://u:secret@127.0.0.1:9/none")
        lost = live.next_view(live_monitor, view)
    assert lost.seen is view.seen
    text = " ".join(drawn(lost).split())
    assert "The database did not answer" in text
    assert "cannot be reached" in text
    assert "secret" not in text
    back = live.next_view(live_monitor, lost)
    assert back.trouble is None
    assert back.at > view.at


def test_a_project_that_is_not_there_ends_it(database: str) -> None:
    with pytest.raises(DataminerError, match="there is no project void"):
        read_view("void")
    assert "No projects yet" in drawn(read_view())


def test_a_database_without_tables_is_no_traceback(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(server, prefix="bare") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(DatabaseError, match="no tables yet"):
            read_view()


def test_without_a_terminal_it_looks_once(busy: str) -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "birds" in done.stdout
    assert "\x1b" not in done.stdout
    reported = subprocess.run(
        [*COMMAND, "--json", "--read-only"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert json.loads(reported.stdout)["rates"]["birds"]["through"] == 3


def test_in_a_terminal_it_goes_on_until_ctrl_c(busy: str) -> None:
    """A claim that turns stale while it watches is given back; Ctrl-C is a good end."""
    master, slave = pty.openpty()
    watching = subprocess.Popen(
        [*COMMAND, "--interval", "0.2"],
        cwd=ROOT,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(slave)
    try:
        seen = _read_until(master, b"birds")
        silence(busy)
        seen += _read_until(master, b"released for jobs")
        watching.send_signal(signal.SIGINT)
        rest = _read_until(master, None)
        assert watching.wait(120) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(master)
    assert b"Traceback" not in seen + rest
    assert b"\x1b[?1049l" in rest, "the terminal is given back"
    assert b"birds" in rest.split(b"\x1b[?1049l")[1], "the last view stays"
    assert execute(busy, "SELECT status FROM videos WHERE video_id = 'v4'") == [("DOWNLOADED",)]


def _read_until(master: int, wanted: bytes | None, seconds: float = 120) -> bytes:
    seen, end = b"", time.monotonic() + seconds
    while wanted is None or wanted not in seen:
        assert time.monotonic() < end, seen[-2000:]
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        seen += piece
    return seen
