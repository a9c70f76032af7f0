"""Folders and logs of earlier runs: those that are still of use, and the removal of the others."""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from dataminer.sync.claims.owners import is_dead

_RUN = "[0-9]" * 8 + "-" + "[0-9]" * 6 + "-*"  # the name of a run
_VIDEO = re.compile(rb"^\S+ \S+ [A-Z]+ ([A-Za-z0-9_-]+): ", re.M)  # as in a batch's log
_KEEP_SECONDS = 30 * 24 * 3600  # a run on another machine, about which nothing else is known


def logs_of(folder: Path) -> list[Path]:
    """Return the logs of a stage's batches, the newest first.

    Parameters
    ----------
    folder : Path
        The stage's folder of logs; for filter, that of one project.
    """
    written = {}
    for path in folder.glob(f"{_RUN}/*.log"):
        with suppress(OSError):  # another run removes it
            written[path] = path.stat().st_mtime
    return sorted(written, key=written.__getitem__, reverse=True)


def remove_old(runs: Path, logs: Path) -> None:
    """Remove what ended runs have left, except logs that are still of use.

    These are the logs of the last run, and the last log of each video at each stage.

    Parameters
    ----------
    runs : Path
        The parent of the folders of all runs.
    logs : Path
        The parent of the folders of all rules' logs.
    """
    for batches_file in runs.glob("*/*.json"):
        owner = json.loads(batches_file.read_text("utf-8"))["owner"]
        old = time.time() - batches_file.stat().st_mtime > _KEEP_SECONDS
        if is_dead(owner) or old:
            shutil.rmtree(batches_file.parent, ignore_errors=True)
    _remove_logs(logs, {folder.name for folder in runs.glob("*")})


def _remove_logs(logs: Path, running: set[str]) -> None:
    run_logs = [path for rule in ("adopt", "batches") for path in logs.glob(f"{rule}/{_RUN}.log")]
    last = max((path.stem for path in run_logs if path.stem not in running), default="")
    kept = {*running, last}
    stages = (logs / "download", logs / "extract", logs / "embed", *logs.glob("filter/*"))
    for folder in stages:
        kept |= _remove_superseded(folder, {*running, last})
    for path in run_logs:
        if path.stem not in kept:
            path.unlink(missing_ok=True)


def _remove_superseded(folder: Path, kept: set[str]) -> set[str]:
    """Remove logs whose videos all have newer ones; return the runs that still have logs."""
    newer: set[bytes] = set()
    remaining = set()
    for path in logs_of(folder):
        with suppress(OSError):
            videos = {*_VIDEO.findall(path.read_bytes())}
            if path.parent.name in kept or not videos <= newer:
                remaining.add(path.parent.name)
            else:
                path.unlink()
            newer |= videos
    for run in folder.glob(_RUN):
        if run.name not in kept:  # a job of a kept run may be about to write there
            with suppress(OSError):  # not empty
                run.rmdir()
    return remaining
