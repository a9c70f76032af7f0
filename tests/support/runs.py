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
import psycopg2
import psycopg2.extensions

from dataminer.sync.claims.stage_rows import StageRows
from dataminer.sync.pairing.records import STORE_FILE
from tests.support.http_server import Reply
from tests.support.paths import BIN, ROOT
from tests.support.site import Site
from tests.support.waiting import wait_for

FILTER = {"min_sharpness": 0}
# columns that differ
PASSING = ("workdir", "lease", "created_at", "updated_at", "locked_at", "heartbeat_at", "costs")
_FETCHED = re.compile(rb'"downloaded_at": "[^"]+"')
PATIENCE = 120.0  # seconds until what a test waits for must have come, on a busy machine
_PAUSE = """
CREATE TABLE pauses (name varchar PRIMARY KEY);
CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pauses WHERE name = TG_ARGV[0]) THEN
        PERFORM pg_sleep(600);
    END IF;
    RETURN NEW;
END $$
"""
_PAUSE_AT = """
INSERT INTO pauses VALUES ('{name}');
CREATE TRIGGER pause_{name} BEFORE UPDATE ON {table} FOR EACH ROW
    WHEN (OLD.{status} <> NEW.{status} AND NEW.{status} IN ({reached}))
    EXECUTE FUNCTION pause('{name}')
"""
_PAUSED = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'
    AND application_name LIKE '{stage} %'
"""
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""


class Barrier:
    """An HTTP answer that comes when the test lets it: a download as slow as it must be."""

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        self._opened = threading.Event()
        self.requested = threading.Event()
        """Set once somebody waits for the answer."""

    def open(self) -> None:
        self._opened.set()

    def __call__(self, target: str) -> Reply:
        self.requested.set()
        self._opened.wait(2 * PATIENCE)
        return Reply(200, self._body, "video/mp4")


class Run:
    """A `snakemake` at work, in a process group of its own."""

    def __init__(self, site: Site, *arguments: str, **environment: str) -> None:
        self.output = site.folder / f"run-{uuid.uuid4().hex[:8]}.txt"
        command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "-c2", *arguments]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=site.folder,
                env=site.environment(**environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self, patience: float = 2 * PATIENCE) -> int:
        return self.process.wait(patience)

    @property
    def printed(self) -> str:
        return self.output.read_text()


class Pauses:
    """Statements in which the database holds jobs up, so that a test can strike just then.

    A job that `claims` is about to be given a row. One that `records` has put its files in place,
    and the COMMIT that says so is yet to come.

    Parameters
    ----------
    site : Site
        Whose database it is.
    moments : tuples of StageRows and str
        The stages, each with "claims" or "records".
    """

    def __init__(self, site: Site, *moments: tuple[StageRows, str]) -> None:
        self._site = site
        self._asking: psycopg2.extensions.connection | None = None
        site.rows(_PAUSE)
        for stage, moment in moments:
            statuses = {"claims": (stage.running,), "records": stage.done}[moment]
            site.rows(
                _PAUSE_AT.format(
                    name=f"{stage.name}_{moment}",
                    table=stage.table,
                    status=stage.status_column,
                    reached=", ".join(f"'{status}'" for status in statuses),
                )
            )

    def reached(self, stage: StageRows) -> bool:
        """Tell whether a job of this stage is held up; asked often, so on one connection."""
        try:
            if self._asking is None or self._asking.closed:
                self._asking = psycopg2.connect(self._site.database)
                self._asking.autocommit = True
            with self._asking.cursor() as cursor:
                cursor.execute(_PAUSED.format(stage=stage.name))
                return bool(cursor.fetchall())
        except psycopg2.OperationalError:  # ended by a test, as all sessions are
            self._asking = None
            return False

    def lift(self, stage: StageRows, moment: str) -> None:
        """Hold up no more jobs at this moment; those that are held up stay so."""
        self._site.rows(f"DELETE FROM pauses WHERE name = '{stage.name}_{moment}'")


def end_sessions(site: Site) -> None:
    """End what the database still does for processes that are no more: it notices late."""
    site.rows(_END_OTHERS)


def populate(site: Site, inputs: dict[str, list[str]], **settings: Any) -> None:
    """Configure a project, and add what it lists."""
    extract = {"every_seconds": 0.04}
    site.configure(
        **{"project": "birds", "input": inputs, "filter": FILTER, "extract": extract, **settings}
    )
    site.populate()


def without_snakemake(site: Site, last: str) -> None:
    """Do all jobs of a site's projects up to a stage, in one process."""
    module = "tests.support.without_snakemake"
    done = site.run("python", "-m", module, last, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def until(condition: Callable[[], object], run: Run, what: object = "") -> None:
    """Wait for what a run shall come to; `what` says in a failure what that was."""
    came = wait_for(lambda: bool(condition()) or run.process.poll() is not None, PATIENCE)
    assert came, f"{what} did not come: {run.printed}"
    assert run.process.poll() is None, f"the run ended before {what}: {run.printed}"


def held(site: Site, status: str) -> str | None:
    """Return who holds a video in this status."""
    rows = site.rows(f"SELECT locked_by FROM videos WHERE status = '{status}'")
    return rows[0][0] if rows else None


def pid_of(owner: str | None) -> int:
    assert owner
    return int(owner.split(":")[1])


def job_of(run: Run, rule: str) -> int:
    """Return the process of a rule's script that a run has started, and not those it forked."""
    script = "batch" if rule in ("download", "extract", "filter") else rule
    found = {
        process.pid: process.ppid()
        for process in psutil.Process(run.process.pid).children(recursive=True)
        if _last_argument(process).endswith(f".{script}.py") and "python" in process.name()
    }
    (pid,) = [pid for pid, parent in found.items() if parent not in found]
    return pid


def _last_argument(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return ["", *process.cmdline()][-1]
    return ""  # it has ended meanwhile


def half_written(site: Site, video_id: str) -> bool:
    """Tell whether some frames of a video lie there that are not in place yet."""
    return any((site.folder / "data" / "frames" / video_id).glob(".*.partial/*.jpg"))


def states(site: Site, stage: StageRows) -> set[str]:
    """Return the statuses of the rows that a stage works on."""
    return {status for (status,) in site.rows(f"SELECT {stage.status_column} FROM {stage.table}")}


def contents(site: Site) -> dict[str, str]:
    """Return the digest of each file of the store, hidden ones too, but for when it came.

    Reports are left out: they tell how long jobs took; so is what names the store's database.
    """
    store = site.folder / "data"
    files = [
        path
        for path in sorted(store.rglob("*"))
        if path.is_file()
        and (path.parent.name, path.name) != ("report", "index.html")
        and path.name != STORE_FILE
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
        if table != "dataminer_store"
    }


def story(site: Site) -> tuple[Any, ...]:
    return site.rows("SELECT status, attempts, locked_by, error, error_class FROM videos")[0]


def detector(weights: Path) -> dict[str, Any]:
    return {"model": str(weights), "image_size": 160}
