"""Failures of a stage: as results, as errors of the next stage, and as lines of a run's output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dataminer.db.enums import VideoStatus
from dataminer.errors import DataminerError, ErrorClass, FailedBefore, TransientError, runnable
from dataminer.files.publishing import atomic_write
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.store.layout import INFO_FILE
from dataminer.sync.tasks.task import TaskOutcome
from dataminer.text import tell

Meta = dict[str, Any]
FailureWriter = Callable[[Path, DataminerError, ErrorClass], None]

REFUSALS = {ErrorClass.POLICY, ErrorClass.UNCHECKED}


class NotReady(DataminerError):
    """A video waits for the stage before, which had a transient failure."""


class SourceChanged(TransientError, NotReady):
    """A video's file was written to since it was downloaded: it is downloaded again."""


class FramesLost(TransientError, NotReady):
    """Some of a video's frames are gone: the next run extracts them again."""

    folder: Path
    """The folder of the frames."""


class ModelOutputsLost(TransientError, NotReady):
    """A model's outputs for a video's frames cannot be read: the next run makes them again."""


def raise_failure(meta: Meta | None) -> None:
    """Raise the failure that the files of the stage before record, if they record one.

    Raises
    ------
    FailedBefore
        If ``meta`` records a failure.
    """
    failure = (meta or {}).get("failure")
    if failure:
        raise FailedBefore(failure["message"], ErrorClass(failure["error_class"]), failure["hint"])


def is_refused(info: Meta) -> bool:
    """Tell whether an ``info.json`` records that the policy refused the video."""
    return info.get("failure", {}).get("error_class") in REFUSALS


def failed_info(provenance: Meta) -> FailureWriter:
    """Return a writer of ``info.json`` for a video that could not be downloaded."""

    def write(folder: Path, error: DataminerError, error_class: ErrorClass) -> None:
        meta = _failure_meta(provenance, error, error_class)
        with atomic_write(folder / INFO_FILE) as partial:
            partial.write_text(json.dumps(meta, indent=1, sort_keys=True), encoding="utf-8")

    return write


def failed_frames(provenance: Meta) -> FailureWriter:
    """Return a writer of an empty ``frames.parquet`` for a video without frames."""

    def write(folder: Path, error: DataminerError, error_class: ErrorClass) -> None:
        meta = _failure_meta(provenance, error, error_class)
        write_table(folder / FRAMES_FILE, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, meta)

    return write


def _failure_meta(provenance: Meta, error: DataminerError, error_class: ErrorClass) -> Meta:
    failure = {"message": error.message, "error_class": str(error_class), "hint": error.hint}
    return {"failure": failure, **provenance}


def print_failure(video_id: str, outcome: TaskOutcome, projects: Iterable[str]) -> None:
    """Name a failure that does not stop the run in the run's own output."""
    error = runnable(outcome.columns.get("error") or "", video_id, projects)
    if outcome.status == VideoStatus.FAILED:
        tell(f"dataminer: video {video_id} FAILED: {error}", sys.stderr)
    elif error:
        tell(f"dataminer: video {video_id} keeps the frames that it has: {error}", sys.stderr)
