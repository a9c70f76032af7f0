"""A project's frames in numbers: how many, their quality, and why some were dropped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from dataminer.config.models import FilterConfig
from dataminer.errors import DamagedFile
from dataminer.files.links import ABSENT_ERRORS
from dataminer.formats.contact_sheet import spread
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_meta, read_table
from dataminer.provenance import recipes
from dataminer.stages.filter.scores import SCORES_FILE, read_scores
from dataminer.stages.filter.stage import first_failed
from dataminer.stages.filter.thresholds import METRIC_COLUMNS, QUALITY_NAMES, QUALITY_THRESHOLDS
from dataminer.store.layout import Store
from dataminer.text import cut

_CANDIDATES = 400  # examples to choose from per reason
_PER_VIDEO = 2  # of them per video, at least
_LONGEST = 60  # characters of a score's name, or of a reason
_COLUMNS = [
    *("frame_index", "file_name", "pts_time"),
    *dict.fromkeys(threshold.column for threshold in QUALITY_THRESHOLDS),
]


@dataclass(frozen=True)
class Shot:
    """A frame to show.

    Parameters
    ----------
    video_id, file_name : str
        Identify its picture.
    frame_index : int
        Its index in the video.
    pts_time : float
        Its time in seconds.
    note : str
        Shown beside it.
    """

    video_id: str
    file_name: str
    frame_index: int
    pts_time: float
    note: str = ""


@dataclass
class Values:
    """One column over all frames.

    Attributes
    ----------
    kept, dropped : ndarray of float32, shape (n,)
        Values of the frames that passed, and of the others.
    limits : dict of str to float
        Its thresholds, by the setting's name.
    """

    kept: NDArray[np.float32]
    dropped: NDArray[np.float32]
    limits: dict[str, float]


@dataclass
class FrameFindings:
    """Results of extract and filter over a project's frames.

    Attributes
    ----------
    extracted, passed : dict of str to int
        Number of frames per video; ``passed`` has filtered videos only.
    reasons : Counter
        Number of dropped frames per setting; each counts under the one that it failed first.
    columns : dict of str to Values
        Quality and scores, by name.
    dropped : dict of str to list of Shot
        Examples per reason.
    damaged : list of str
        One message for each table that could not be read.
    other_settings : Counter
        Number of videos extracted with other settings, per combination of differing settings.
    notes : dict of str to dict
        What was lost, mended or converted: counts by kind, per video that has any.
    without_notes : int
        Number of videos whose frames are of an older version, which did not count this.
    """

    extracted: dict[str, int] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    columns: dict[str, Values] = field(default_factory=dict)
    dropped: dict[str, list[Shot]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    other_settings: Counter[str] = field(default_factory=Counter)
    notes: dict[str, dict[str, int]] = field(default_factory=dict)
    without_notes: int = 0


def read_frames(
    store: Store,
    project: str,
    video_ids: Iterable[str],
    settings: FilterConfig,
    most: int,
    *,
    extract: Mapping[str, Any] = {},
) -> FrameFindings:
    """Read what extract measured and what filter decided for every video of a project.

    Parameters
    ----------
    store : Store
    project : str
    video_ids : iterable of str
        Its videos; those without frames are skipped.
    settings : FilterConfig
        Used for results without recorded settings.
    most : int
        Maximum number of examples per reason, spread evenly over the videos.
    extract : mapping
        Settings of extract in the configuration.
    """
    frames, columns = FrameFindings(), _Columns()
    folders = {v: recipes.of_project(store, project, v) for v in video_ids}
    extracted = [v for v, folder in folders.items() if (folder / FRAMES_FILE).is_file()]
    share = min(most, max(_PER_VIDEO, _CANDIDATES // max(len(extracted), 1)))
    for video_id in extracted:
        both = folders[video_id], store.filtered(project, video_id)
        try:
            _read_video(video_id, both, settings, frames, columns, share=share)
            _add_origin(video_id, read_meta(folders[video_id] / FRAMES_FILE), extract, frames)
        except DamagedFile as error:
            frames.damaged.append(error.message)
    frames.columns = columns.values()
    by_count = (reason for reason, _ in frames.reasons.most_common())
    frames.dropped = {reason: spread(frames.dropped[reason], most) for reason in by_count}
    return frames


class _Columns:
    """Collects the columns of one video after another."""

    def __init__(self) -> None:
        self._kept: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        self._dropped: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        self._limits: dict[str, dict[str, float]] = defaultdict(dict)

    def add(
        self, values: Mapping[str, NDArray[Any]], kept: NDArray[np.bool_], settings: FilterConfig
    ) -> None:
        for name, column in values.items():
            numbers = column.astype(np.float32)
            measured = ~np.isnan(numbers)
            self._kept[name].append(numbers[kept & measured])
            self._dropped[name].append(numbers[~kept & measured])
            for limit in (f"min_{name}", f"max_{name}"):
                value = getattr(settings, limit, None)
                if isinstance(value, (int, float)):
                    self._limits[name][limit] = float(value)

    def values(self) -> dict[str, Values]:
        return {
            name: Values(
                np.concatenate(kept), np.concatenate(self._dropped[name]), self._limits[name]
            )
            for name, kept in self._kept.items()
        }


def _read_video(
    video_id: str,
    folders: tuple[Path, Path],
    fallback: FilterConfig,
    frames: FrameFindings,
    columns: _Columns,
    *,
    share: int,
) -> None:
    source, folder = folders
    table = read_table(source / FRAMES_FILE, _COLUMNS, schema=FRAMES_SCHEMA)
    frames.extracted[video_id] = table.num_rows
    if not (folder / FRAMES_FILE).is_file():
        return
    meta = read_meta(folder / FRAMES_FILE)
    settings = _settings(meta, fallback)
    failed = first_failed(table, settings)
    reasons = [QUALITY_NAMES[number] if number >= 0 else "" for number in failed]
    values = {name: table[name].to_numpy() for name in METRIC_COLUMNS}
    if (folder / SCORES_FILE).is_file():
        _add_scores(read_scores(folder / SCORES_FILE), table, reasons, values)
    kept = np.array([not reason for reason in reasons], np.bool_)
    frames.passed[video_id] = int(kept.sum())
    frames.reasons.update(reason for reason in reasons if reason)
    columns.add(values, kept, settings)
    for reason, shots in _examples(video_id, table, reasons, values, share).items():
        frames.dropped.setdefault(reason, []).extend(shots)


def _add_origin(
    video_id: str, meta: Mapping[str, Any], extract: Mapping[str, Any], frames: FrameFindings
) -> None:
    """Add what a table says about the extraction of its frames."""
    used = meta.get("settings") or {}
    differing = [f"{k} {v}" for k, v in sorted(used.items()) if extract.get(k, v) != v]
    if differing:
        frames.other_settings[", ".join(differing)] += 1
    if meta.get("notes"):
        frames.notes[video_id] = meta["notes"]
    elif frames.extracted[video_id] and "notes" not in meta:
        frames.without_notes += 1


def _settings(meta: Mapping[str, Any], fallback: FilterConfig) -> FilterConfig:
    """Return the thresholds of a result: the configuration may have changed since."""
    try:
        return FilterConfig.model_validate(meta["settings"])
    except (KeyError, ValidationError):  # an older version, or a failed video
        return fallback


def _add_scores(
    scores: pa.Table, table: pa.Table, reasons: list[str], values: dict[str, NDArray[Any]]
) -> None:
    """Add the scores of models: every column of floating-point numbers is one."""
    row_of = {index: row for row, index in enumerate(table["frame_index"].to_pylist())}
    rows = [row_of.get(index) for index in scores["frame_index"].to_pylist()]
    for field_ in scores.schema:
        if not pa.types.is_floating(field_.type):
            continue
        column = np.full(table.num_rows, np.nan, np.float32)
        for row, score in zip(rows, scores[field_.name].to_pylist(), strict=True):
            if row is not None and score is not None:
                column[row] = score
        values[cut(field_.name, _LONGEST)] = column
    if "rejected" in scores.schema.names:
        for row, reason in zip(rows, scores["rejected"].to_pylist(), strict=True):
            if row is not None and reason and not reasons[row]:
                reasons[row] = cut(str(reason), _LONGEST)


def _examples(
    video_id: str,
    table: pa.Table,
    reasons: Sequence[str],
    values: Mapping[str, NDArray[Any]],
    most: int,
) -> dict[str, list[Shot]]:
    examples: dict[str, list[Shot]] = {}
    by_reason: dict[str, list[int]] = defaultdict(list)
    for row, reason in enumerate(reasons):
        if reason:
            by_reason[reason].append(row)
    for reason, rows in by_reason.items():
        metric = values.get(reason.partition("_")[2])
        for row in spread(rows, most):
            note = "" if metric is None or np.isnan(metric[row]) else f"{metric[row]:.3g}"
            examples.setdefault(reason, []).append(_shot(video_id, table, row, note))
    return examples


def _shot(video_id: str, table: pa.Table, row: int, note: str = "") -> Shot:
    return Shot(
        video_id,
        table["file_name"][row].as_py(),
        table["frame_index"][row].as_py(),
        table["pts_time"][row].as_py(),
        note,
    )


class FrameLookup:
    """Finds frames of a project's videos by video and index."""

    def __init__(self, store: Store, project: str) -> None:
        self._store, self._project = store, project
        self._rows = lru_cache(maxsize=64)(self._read)

    def shot(self, video_id: str, frame_index: int, note: str = "") -> Shot | None:
        """Return a frame; None if it is in no table."""
        row = self._rows(video_id).get(frame_index)
        return Shot(video_id, row[0], frame_index, row[1], note) if row else None

    def _read(self, video_id: str) -> dict[int, tuple[str, float]]:
        path = recipes.of_project(self._store, self._project, video_id) / FRAMES_FILE
        try:
            columns = ["frame_index", "file_name", "pts_time"]
            table = read_table(path, columns, schema=FRAMES_SCHEMA)
        except ABSENT_ERRORS:
            return {}
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        return {index: (name, time) for index, name, time in rows}
