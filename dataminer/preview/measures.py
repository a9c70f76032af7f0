"""Measures of a project's frames, compared with thresholds without running anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer import commands
from dataminer.config.models import FilterConfig
from dataminer.errors import DamagedFile, DataminerError, ErrorClass, PermanentError
from dataminer.files.links import is_file
from dataminer.files.reading import list_names
from dataminer.formats.contact_sheet import spread
from dataminer.frames.table import FRAMES_FILE
from dataminer.provenance import recipes
from dataminer.stages.filter.scores import SCORES_FILE, read_scores
from dataminer.stages.filter.stage import first_failed, load_frames
from dataminer.stages.filter.thresholds import (
    MODEL_THRESHOLDS,
    QUALITY_THRESHOLDS,
    REPEATS,
    Flags,
    Threshold,
    Values,
)
from dataminer.store.layout import Store

MOST_VIDEOS = 500


@dataclass(frozen=True)
class PreviewVideo:
    """The frames of a video, in the order of its frame table."""

    video_id: str
    folder: Path
    frames: pa.Table
    scores: dict[str, Values]


@dataclass(frozen=True)
class Measured:
    """A threshold and its values in all n frames of a preview.

    Attributes
    ----------
    values : ndarray of float32, shape (n,)
        NaN for frames that were not measured.
    limit, tried : float or None
        The threshold as configured, and the one to try; None if it is off.
    fails, tried_fails : ndarray of bool, shape (n,)
        Which frames fail each of the two.
    """

    threshold: Threshold
    values: Values
    limit: float | None
    tried: float | None
    fails: Flags
    tried_fails: Flags


@dataclass(frozen=True)
class Preview:
    """A project's frames and which of them fail each threshold.

    Attributes
    ----------
    videos : tuple of PreviewVideo
        The videos that were read.
    all_videos, unread : int
        How many videos the project has, and how many of the chosen ones could not be read.
    measured : tuple of Measured
        One per threshold, in the order of the filter.
    """

    project: str
    videos: tuple[PreviewVideo, ...]
    all_videos: int
    unread: int
    measured: tuple[Measured, ...]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(video.frames.num_rows for video in self.videos)

    def matrix(self, *, tried: bool) -> Flags:
        """Return which threshold each frame fails, shape (thresholds, frames)."""
        rows = [each.tried_fails if tried else each.fails for each in self.measured]
        return np.stack(rows) if rows else np.zeros((0, self.frames), np.bool_)

    def locate(self, number: int) -> tuple[PreviewVideo, int]:
        """Return the video of a frame, and its row in that video's table."""
        video = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[video - 1]) if video else 0
        return self.videos[video], number - before

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([video.frames.num_rows for video in self.videos])


def gather_preview(
    store: Store,
    project: str,
    settings: FilterConfig,
    tried: FilterConfig,
    *,
    most_videos: int = MOST_VIDEOS,
    leave_out: Callable[[str], None] = lambda _: None,
) -> Preview:
    """Read a project's stored frames and compare them with two sets of thresholds.

    Parameters
    ----------
    store : Store
        Has the frames; nothing is written.
    project : str
        Its name. Only its filtered videos are read.
    settings, tried : FilterConfig
        The thresholds as configured, and those to try.
    most_videos : int
        Maximum number of videos, spread evenly over all.
    leave_out : callable
        Called with a message for each damaged table of scores, which is skipped.

    Raises
    ------
    DataminerError
        If there is no such project, or it has no frames.
    """
    every = _filtered_videos(store, project)
    chosen = spread(every, most_videos)
    videos = tuple(_read(store, project, chosen, leave_out))
    if not any(video.frames.num_rows for video in videos):
        raise DataminerError(
            f"project {project} has no frame to preview", "`dataminer status` shows why"
        )
    return Preview(
        project, videos, len(every), len(chosen) - len(videos), _measure(videos, settings, tried)
    )


def _filtered_videos(store: Store, project: str) -> list[str]:
    folder = store.project(project) / "filtered"
    if not store.project(project).is_dir():
        raise DataminerError(
            f"there is no project {project} under {store.root}",
            "`dataminer status` lists the projects; `--config FILE` names another store",
        )
    every = [name for name in list_names(folder) if is_file(folder / name / FRAMES_FILE)]
    if not every:
        raise DataminerError(
            f"project {project} has no filtered videos yet",
            f"`{commands.snakemake([project])}` makes them",
        )
    return sorted(name for name in every if not name.startswith("."))


def _read(
    store: Store, project: str, video_ids: Sequence[str], leave_out: Callable[[str], None]
) -> Iterator[PreviewVideo]:
    for video_id in video_ids:
        folder = recipes.of_project(store, project, video_id)
        try:
            frames = load_frames(folder)
        except PermanentError as error:
            if error.error_class not in (ErrorClass.MISSING_SOURCE, ErrorClass.CORRUPT):
                raise
            continue
        try:
            scores = _scores(store.filtered(project, video_id) / SCORES_FILE, frames)
        except DamagedFile as error:
            leave_out(error.message)
            scores = {}
        yield PreviewVideo(video_id, folder, frames, scores)


def _scores(path: Path, frames: pa.Table) -> dict[str, Values]:
    """Return all floating-point columns of a table of scores, in the order of the frames."""
    if not path.is_file():
        return {}
    table = read_scores(path)
    row_of = {frame: row for row, frame in enumerate(table["frame_index"].to_pylist())}
    rows = [row_of.get(frame) for frame in frames["frame_index"].to_pylist()]
    columns = [name for name in table.column_names if pa.types.is_floating(table[name].type)]
    taken = table.select(columns).take(pa.array(rows, pa.int64()))
    return {name: taken[name].to_numpy().astype(np.float32) for name in columns}


def _measure(
    videos: Sequence[PreviewVideo], settings: FilterConfig, tried: FilterConfig
) -> tuple[Measured, ...]:
    measured = []
    for threshold in (*QUALITY_THRESHOLDS, *MODEL_THRESHOLDS):
        values = _column(videos, threshold)
        if threshold in MODEL_THRESHOLDS and np.isnan(values).all():
            continue  # no model ran
        limit, other = threshold.limit(settings), threshold.limit(tried)
        fails = _fails(videos, threshold, values, limit, settings)
        tried_fails = fails
        if tried != settings:
            tried_fails = _fails(videos, threshold, values, other, tried)
        measured.append(Measured(threshold, values, limit, other, fails, tried_fails))
    return tuple(measured)


def _column(videos: Sequence[PreviewVideo], threshold: Threshold) -> Values:
    parts = []
    for video in videos:
        if threshold in QUALITY_THRESHOLDS:
            part = threshold.values(video.frames)
        else:
            unknown = np.full(video.frames.num_rows, np.nan, np.float32)
            part = video.scores.get(threshold.column, unknown)
        parts.append(part)
    return np.concatenate(parts)


def _fails(
    videos: Sequence[PreviewVideo],
    threshold: Threshold,
    values: Values,
    limit: float | None,
    settings: FilterConfig,
) -> Flags:
    if limit is None:
        return np.zeros(len(values), np.bool_)
    if threshold.name == REPEATS:  # it applies to frames that pass those before it
        index = QUALITY_THRESHOLDS.index(threshold)
        return np.concatenate([first_failed(each.frames, settings) == index for each in videos])
    failed = threshold.fails(values, limit)
    if threshold in MODEL_THRESHOLDS:  # only videos that its model scored can fail it
        column = threshold.column
        scored = [np.full(each.frames.num_rows, column in each.scores) for each in videos]
        failed &= np.concatenate(scored)
    return failed
