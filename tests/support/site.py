"""A working directory in which the workflow runs as a user runs it: as commands."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from dataminer.cli.main import main
from dataminer.frames.table import read_meta
from dataminer.provenance import recipes
from dataminer.store.layout import Store
from tests.support.paths import BIN, ROOT
from tests.support.postgres import execute, fresh_database, name_of

_DUMP = "SELECT to_jsonb(t)::text FROM {table} t ORDER BY 1"


@dataclass(frozen=True)
class Site:
    """A folder with a config, and the database it goes with.

    Parameters
    ----------
    folder : Path
        The working directory.
    database : str
        The URL of the database.
    """

    folder: Path
    database: str

    def environment(self, **more: str) -> dict[str, str]:
        """Return what commands find in their environment here; an empty value leaves one out."""
        given = {
            **os.environ,
            "DATABASE_URL": self.database,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            **more,
        }
        return {name: value for name, value in given.items() if value}

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment here."""
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=1500,
        )

    def dataminer(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``dataminer``."""
        return self.run("dataminer", *arguments, **environment)

    def dataminer_here(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``dataminer`` in this process: a second quicker, where the process is not tested."""
        out, err = io.StringIO(), io.StringIO()
        with self.inside() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["dataminer", *arguments])
            code: str | int = 0
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        if isinstance(code, str):
            print(code, file=err)
            code = 1
        return subprocess.CompletedProcess(arguments, int(code), out.getvalue(), err.getvalue())

    @contextmanager
    def inside(self) -> Iterator[pytest.MonkeyPatch]:
        """Have this process work here for a while."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("DATABASE_URL", self.database)
            yield patch

    def populate(self) -> None:
        """Add what the configuration lists."""
        done = self.dataminer_here("populate")
        assert done.returncode == 0, done.stderr

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``snakemake`` with the site's config file on top of the default one."""
        return self.run(
            "snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments, **environment
        )

    def mine(self, *arguments: str, cores: str = "-c2") -> subprocess.CompletedProcess[str]:
        """Run the workflow to its end, which must be a good one."""
        done = self.snakemake(cores, *arguments)
        assert done.returncode == 0, done.stderr
        return done

    def configure(self, **values: Any) -> None:
        """Write the site's configuration."""
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        (config / "config.yaml").write_text(yaml.safe_dump(values))

    def config(self) -> dict[str, Any]:
        """Read the site's configuration."""
        values: dict[str, Any] = yaml.safe_load(
            (self.folder / "config" / "config.yaml").read_text()
        )
        return values

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        return execute(self.database, statement)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table, times included."""
        tables = (
            *("projects", "videos", "project_videos"),
            *("dataminer_version", "dataminer_store"),
        )
        return {table: self.rows(_DUMP.format(table=table)) for table in tables}

    def listing(self, under: str = "data") -> dict[str, tuple[int, int, int]]:
        """Return size, time and inode of everything under a folder."""
        found = {}
        for path in sorted((self.folder / under).rglob("*")):
            stat = path.lstat()
            size = stat.st_size if path.is_file() else 0
            found[str(path.relative_to(self.folder))] = (size, stat.st_mtime_ns, stat.st_ino)
        return found


@contextmanager
def copied(server: str, folder: Path, database: str, to: Path) -> Iterator[Site]:
    """Give a copy of a site, files and database, to go on from."""
    shutil.copytree(folder, to, symlinks=True)
    with fresh_database(server, name_of(database), "copy") as url:
        site = Site(to, url)
        done = site.dataminer_here("adopt")
        assert done.returncode == 0, done.stderr
        yield site


def jobs(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return how many jobs of each rule a run had, from Snakemake's own table."""
    if "Job stats:" not in done.stderr + done.stdout:
        return {}
    table = (done.stdout + done.stderr).split("Job stats:")[1].splitlines()[3:]
    counts = {}
    for line in table:
        if not line.strip():
            break
        name, count = line.split()
        counts[name] = int(count)
    counts.pop("total")
    counts.pop("batches", None)  # of every run that does something
    return counts


def recount(site: Site, project: str) -> tuple[int, ...]:
    """Count from the files alone what the counters of `projects` say."""
    store = site.folder / "data"
    filtered = sorted((store / "projects" / project / "filtered").glob("*/frames.parquet"))
    names = [table.parent.name for table in filtered]
    infos = [json.loads((store / "videos" / name / "info.json").read_text()) for name in names]
    folders = [recipes.of_project(Store(store), project, name) for name in names]
    tables = [folder / "frames.parquet" for folder in folders]
    good = [table for table in tables if table.exists() and "failure" not in read_meta(table)]
    coco = json.loads((store / "projects" / project / "detect" / "annotations.json").read_text())
    dedup = store / "projects" / project / "dedup"
    images = len(list(dedup.glob("*.jpg")))
    assert images == pq.read_metadata(dedup / "frames.parquet").num_rows == len(coco["images"])
    return (
        len(names),
        0,
        sum("failure" not in info for info in infos),
        len(good),
        len(names) - len(good),
        sum(len(list(table.parent.glob("*.jpg"))) for table in good),
        sum(len(list(table.parent.glob("*.jpg"))) for table in filtered),
        images,
        len(coco["annotations"]),
    )


def counters(site: Site, project: str) -> tuple[int, ...]:
    """Return the counters of a row of `projects`."""
    (row,) = site.rows(
        "SELECT total_videos, videos_pending, videos_downloaded, videos_extracted, videos_failed,"
        " extracted_frames, filtered_frames, unique_frames, annotations FROM projects"
        f" WHERE name = '{project}'"
    )
    return row


def stage(site: Site, project: str) -> str:
    ((stage,),) = site.rows(f"SELECT project_stage FROM projects WHERE name = '{project}'")
    return str(stage)
