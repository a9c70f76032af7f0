"""A working directory in which the workflow runs as a user runs it: as commands."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT, execute

BIN = Path(sys.executable).parent
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

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment here."""
        env = {
            **os.environ,
            "DATABASE_URL": self.database,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            **environment,
        }
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.folder,
            env={name: value for name, value in env.items() if value},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def dataminer(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``dataminer``."""
        return self.run("dataminer", *arguments, **environment)

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
        return yaml.safe_load((self.folder / "config" / "config.yaml").read_text())

    def rows(self, statement: str) -> list[tuple]:
        """Ask the database."""
        return execute(self.database, statement)

    def dump(self) -> dict[str, list[tuple]]:
        """Return every row of every table, times included."""
        tables = ("projects", "videos", "project_videos", "alembic_version")
        return {table: self.rows(_DUMP.format(table=table)) for table in tables}

    def listing(self, under: str = "data") -> dict[str, tuple[int, int, int]]:
        """Return size, time and inode of everything under a folder."""
        found = {}
        for path in sorted((self.folder / under).rglob("*")):
            stat = path.lstat()
            size = stat.st_size if path.is_file() else 0
            found[str(path.relative_to(self.folder))] = (size, stat.st_mtime_ns, stat.st_ino)
        return found


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
    return counts
