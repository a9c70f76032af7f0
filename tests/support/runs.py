"""Whole runs at work, which tests watch, kill and compare with each other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.http_server import Reply
from tests.support.paths import BIN, ROOT
from tests.support.site import Site
from tests.support.waiting import wait_for

FILTER = {"min_sharpness": 0}
PASSING = ("lease", "created_at", "updated_at", "locked_at", "heartbeat_at")  # columns that differ
_FETCHED = re.compile(rb'"downloaded_at": "[^"]+"')
PATIENCE = 60.0  # seconds until what a test waits for must have come


class Gate:
    """An HTTP answer that comes when the test lets it: a download as slow as it must be."""

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def __call__(self, target: str) -> Reply:
        self._opened.wait(2 * PATIENCE)
        return Reply(200, self._body, "video/mp4")


class Run:
    """A `snakemake` at work, in a process group of its own."""

    def __init__(self, site: Site, *arguments: str, **environment: str) -> None:
        self.output = site.folder / f"run-{uuid.uuid4().hex[:8]}.txt"
        env = {
            **os.environ,
            "DATABASE_URL": site.database,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            **environment,
        }
        command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "-c2", *arguments]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=site.folder,
                env={name: value for name, value in env.items() if value},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> int:
        return self.process.wait(2 * PATIENCE)

    @property
    def said(self) -> str:
        return self.output.read_text()


def populate(site: Site, inputs: dict[str, list[str]], **settings: Any) -> None:
    extract = {"every_seconds": 0.04}
    site.configure(
        **{"project": "birds", "input": inputs, "filter": FILTER, "extract": extract, **settings}
    )
    done = site.dataminer("populate")
    assert done.returncode == 0, done.stderr


def until(condition: Callable[[], object], run: Run) -> None:
    """Wait for what a run shall come to."""
    came = wait_for(lambda: bool(condition()) or run.process.poll() is not None, PATIENCE)
    assert came, run.said
    assert run.process.poll() is None, run.said


def held(site: Site, status: str) -> str | None:
    """Return who holds a video in this status."""
    rows = site.rows(f"SELECT locked_by FROM videos WHERE status = '{status}'")
    return rows[0][0] if rows else None


def pid_of(owner: str | None) -> int:
    assert owner
    return int(owner.split(":")[1])


def job_of(run: Run, rule: str) -> int:
    """Return the process of a rule's script that a run has started."""
    (pid,) = [
        process.pid
        for process in psutil.Process(run.process.pid).children(recursive=True)
        if process.cmdline()[-1].endswith(f".{rule}.py") and "python" in process.name()
    ]
    return pid


def half_written(site: Site) -> bool:
    return any((site.folder / "data" / "frames").glob(".*.partial/*.jpg"))


def contents(site: Site) -> dict[str, str]:
    """Return the digest of each file of the store, hidden ones too, but for when it came.

    Reports are left out: they tell how long jobs took.
    """
    store = site.folder / "data"
    files = [
        path
        for path in sorted(store.rglob("*"))
        if path.is_file() and (path.parent.name, path.name) != ("report", "index.html")
    ]
    return {
        str(path.relative_to(store)): hashlib.sha256(
            _FETCHED.sub(b"", path.read_bytes()) if path.name == "info.json" else path.read_bytes()
        ).hexdigest()
        for path in files
    }


def leftovers(site: Site) -> list[Path]:
    return list((site.folder / "data").rglob("*.partial*"))


def facts(site: Site) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all tables without what may differ between two good runs."""
    tables = {table: [json.loads(row[0]) for row in rows] for table, rows in site.dump().items()}
    return {
        table: [{name: row[name] for name in row if name not in PASSING} for row in rows]
        for table, rows in tables.items()
    }


def story(site: Site) -> tuple[Any, ...]:
    return site.rows("SELECT status, attempts, locked_by, error, error_class FROM videos")[0]


def detector(weights: Path) -> dict[str, Any]:
    return {"model": str(weights), "image_size": 160}
