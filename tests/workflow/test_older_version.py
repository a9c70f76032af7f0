"""Folders and databases that older versions made go on working.

tests/fixtures/9aa0d06, of October 2026, holds two projects that share a video. ``lakes`` is
finished: two videos with frames and boxes, a broken one, and a link that leads nowhere. ``roads``
waits for a host that does not answer.

tests/fixtures/24f52a5, of the version before extract counted what was lost, mended or converted,
holds ``lakes``, which is finished, with a broken video and one that is cut off, and ``roads``,
which chose from other frames of one of its videos and is filtered.

Made with those versions' own commands; their source files are gone.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from tests.support import videos
from tests.support.paths import ROOT
from tests.support.postgres import fresh_database
from tests.support.site import Site, counters, jobs, recount, stage

MADE = ROOT / "tests" / "fixtures"
RULES = ("take_up", "extract", "filter", "dedup", "detect", "report", "all")


@contextmanager
def made_by(commit: str, folder: Path, server: str) -> Iterator[Site]:
    with tarfile.open(MADE / commit / "folder.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    with fresh_database(server) as database:
        connection = psycopg2.connect(database)
        with connection, connection.cursor() as cursor:
            cursor.execute((MADE / commit / "database.sql").read_text())
        connection.close()
        yield Site(folder, database)


@pytest.fixture
def older(tmp_path: Path, server: str) -> Iterator[Site]:
    with made_by("9aa0d06", tmp_path, server) as site:
        yield site


@pytest.fixture
def newer(tmp_path: Path, server: str, shapes_weights: Path) -> Iterator[Site]:
    with made_by("24f52a5", tmp_path, server) as site:
        (tmp_path / "models").mkdir()
        shutil.copy(shapes_weights, tmp_path / "models" / "shapes.pt")
        yield site


def stored(site: Site) -> set[tuple[int, int, int]]:
    """Return the files of videos and frames, whichever folder of their video they are in."""
    found = site.listing("data/videos") | site.listing("data/frames")
    return {it for name, it in found.items() if (site.folder / name).is_file()}


def statuses(site: Site) -> list[tuple[str, str]]:
    return site.rows("SELECT video_id, status FROM videos ORDER BY 1")


def test_an_older_folder_and_its_database_go_on_working(older: Site) -> None:
    before, rows = stored(older), statuses(older)
    assert dict(rows)["broken-6c289ec894"] == dict(rows)["gone-38bac442c5"] == "FAILED"

    done = older.dataminer_here("status")
    assert done.returncode == 1 and "Next: upgrade them with `dataminer db upgrade`" in (
        done.stderr
    )
    planned = older.snakemake("-n")
    # its frames lack columns and notes, and its annotations and report held what must not leave
    due = dict.fromkeys(RULES, 1) | {"extract": 2, "filter": 2}
    assert jobs(planned) == due, planned.stderr
    done = older.mine()
    assert "lakes" in older.dataminer_here("status").stdout
    assert older.rows("SELECT to_regclass('alembic_version')") == [(None,)]
    assert older.rows("SELECT version_num FROM dataminer_version") != []
    assert jobs(done) == due
    assert stored(older) > before
    assert statuses(older) == rows
    assert stage(older, "lakes") == "COMPLETE"
    assert counters(older, "lakes") == recount(older, "lakes") == (4, 0, 2, 2, 2, 7, 7, 7, 7)
    project = older.folder / "data" / "projects" / "lakes"
    annotations = (project / "detect" / "annotations.json").read_text()
    assert {image["url"] for image in json.loads(annotations)["images"]} == {
        "lake 1.mp4",
        "shared.mp4",
    }
    assert "planted-word" not in (project / "report" / "index.html").read_text()
    assert "/srv" not in annotations + (project / "report" / "index.html").read_text()
    assert "Nothing to be done" in older.mine().stderr
    done = older.dataminer_here("sync", "--deep", "--dry-run")
    assert done.returncode == 0 and "nothing to repair" in done.stdout, done.stdout + done.stderr
    done = older.dataminer_here("export", "lakes", "--format", "coco", "--to", "dataset")
    assert "7 images" in done.stdout, done.stderr
    for video_id, status in rows:
        assert status in older.dataminer_here("why", video_id).stdout


def test_an_older_project_is_finished_and_grows(older: Site) -> None:
    before = stored(older)
    roads = ("--configfile", "config/roads.yaml")
    assert older.dataminer_here("db", "upgrade").returncode == 0
    done = older.dataminer_here("delete-videos", "later-cc97739733", "--yes")
    assert done.returncode == 0, done.stderr
    videos.make_video(older.folder / "new.mp4", frames=50, size=(96, 64))
    config = older.folder / "config" / "roads.yaml"
    text = config.read_text().replace("files: [", "files: [new.mp4, ")
    config.write_text("".join(line for line in text.splitlines(True) if "urls:" not in line))
    done = older.dataminer_here("populate", "--config", "config/roads.yaml")
    assert done.returncode == 0, done.stderr
    done = older.mine(*roads)
    due = dict.fromkeys((*RULES, "download"), 1) | {"extract": 3, "filter": 3}
    assert jobs(done) == due, done.stderr
    assert stage(older, "roads") == "COMPLETE"
    assert stored(older) > before

    done = older.dataminer_here("retry", "--video", "broken-6c289ec894")
    assert done.returncode == 0, done.stderr
    older.mine("only_download")
    assert dict(statuses(older))["broken-6c289ec894"] == "FAILED"


def test_frames_of_a_version_that_counted_no_losses_can_be_used_until_they_are_made_again(
    newer: Site,
) -> None:
    done = newer.dataminer_here("status")
    assert done.returncode == 1 and "`dataminer db upgrade`" in done.stderr
    for command in (("db", "upgrade"), ("adopt",)):
        done = newer.dataminer_here(*command)
        assert done.returncode == 0, done.stderr
    assert newer.rows(
        "SELECT DISTINCT v.notes, pv.source_notes FROM videos v, project_videos pv"
    ) == [({}, {})]
    shown = newer.dataminer_here("status").stdout
    assert "truncated: 1.1 of 4.0 s" in shown and "converted" not in shown
    assert "6 of 6 frames pass as configured" in newer.dataminer_here("preview", "lakes").stdout
    done = newer.dataminer_here("report", "lakes", "--output", "before.html")
    before = (newer.folder / "before.html").read_text()
    assert "Not counted: the frames of 3 videos, which an older version extracted" in before
    done = newer.dataminer_here("export", "lakes", "--format", "coco", "--to", "dataset")
    assert "2 images" in done.stdout, done.stderr

    done = newer.mine()
    due = dict.fromkeys(RULES, 1) | {"extract": 3, "filter": 3}
    assert jobs(done) == {rule: count for rule, count in due.items() if rule != "take_up"}
    assert stage(newer, "lakes") == "COMPLETE"
    assert counters(newer, "lakes") == recount(newer, "lakes")
    ((noted, used),) = newer.rows(
        "SELECT v.notes, pv.source_notes FROM videos v JOIN project_videos pv USING (video_id)"
        " WHERE v.video_id LIKE 'cut-%'"
    )
    assert noted == used and noted["truncated"] == 1
    shown = newer.dataminer_here("status", "--project", "lakes").stdout
    assert re.search(r"│ lakes +│ +1 │ video ends earlier than its file says +│ +1 │", shown)
    report = (newer.folder / "data" / "projects" / "lakes" / "report" / "index.html").read_text()
    assert "1 video ends earlier than its file says" in report and "Not counted" not in report
    done = newer.dataminer_here("sync", "--deep", "--dry-run")
    assert done.returncode == 0 and "nothing to repair" in done.stdout, done.stdout + done.stderr
