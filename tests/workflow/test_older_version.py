"""A folder and a database that the version of October 2026 made (commit 9aa0d06) go on working.

tests/fixtures/9aa0d06 holds two projects that share a video. ``lakes`` is finished: two videos with
frames and boxes, a broken one, and a link that leads nowhere. ``roads`` waits for a host that does
not answer. Made with that version's own commands; its source files are gone.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.support import videos
from tests.support.paths import ROOT
from tests.support.postgres import fresh_database
from tests.support.site import Site, counters, jobs, recount, stage

MADE = ROOT / "tests" / "fixtures" / "9aa0d06"
RESULTS = ("videos", "frames", "projects/lakes/filtered", "projects/lakes/dedup")


@pytest.fixture
def older(tmp_path: Path, server: str) -> Iterator[Site]:
    with tarfile.open(MADE / "folder.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    with fresh_database(server) as database:
        connection = psycopg2.connect(database)
        with connection, connection.cursor() as cursor:
            cursor.execute((MADE / "database.sql").read_text())
        connection.close()
        yield Site(tmp_path, database)


def results(site: Site) -> dict[str, tuple[int, int, int]]:
    """Return the files of the store; of frames, whichever folder of their video they are in."""
    found = {name: it for part in RESULTS for name, it in site.listing(f"data/{part}").items()}
    files = {name: it for name, it in found.items() if (site.folder / name).is_file()}
    return {re.sub("(/frames/[^/]+)/[0-9a-f]{16}/", r"\1/", name): it for name, it in files.items()}


def statuses(site: Site) -> list[tuple[str, str]]:
    return site.rows("SELECT video_id, status FROM videos ORDER BY 1")


def test_an_older_folder_and_its_database_go_on_working(older: Site) -> None:
    before, rows = results(older), statuses(older)
    assert dict(rows)["broken-6c289ec894"] == dict(rows)["gone-38bac442c5"] == "FAILED"

    done = older.dataminer_here("status")
    assert done.returncode == 1 and "Next: upgrade them with `dataminer db upgrade`" in (
        done.stderr
    )
    planned = older.snakemake("-n")
    assert jobs(planned) == {"all": 1, "take_up": 1, "detect": 1, "report": 1}, planned.stderr
    done = older.mine()
    assert "lakes" in older.dataminer_here("status").stdout
    assert older.rows("SELECT to_regclass('alembic_version')") == [(None,)]
    assert older.rows("SELECT version_num FROM dataminer_version") != []
    # annotations and report held what must not leave
    assert jobs(done) == {"all": 1, "take_up": 1, "detect": 1, "report": 1}
    assert results(older) == before
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
    before = results(older)
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
    rules = ("all", "take_up", "download", "extract", "filter", "dedup", "detect", "report")
    assert jobs(done) == dict.fromkeys(rules, 1), done.stderr
    assert stage(older, "roads") == "COMPLETE"
    assert {name: it for name, it in results(older).items() if name in before} == before

    done = older.dataminer_here("retry", "--video", "broken-6c289ec894")
    assert done.returncode == 0, done.stderr
    older.mine("only_download")
    assert dict(statuses(older))["broken-6c289ec894"] == "FAILED"
