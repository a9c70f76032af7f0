"""The annotation of a project's unique frames, and its parts that several jobs share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataminer.config import Config
from dataminer.errors import DataminerError
from dataminer.files.reading import list_names
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, PROVENANCE, read_table
from dataminer.provenance import fingerprints
from dataminer.store.file_stats import states
from dataminer.store.layout import Store
from dataminer.sync.claims import projects, stage_rows
from dataminer.sync.jobs import results
from dataminer.sync.tasks.run import describe_and_run, restart_on_change
from dataminer.sync.tasks.task import StageTask
from dataminer.vision.weights import model_of, weights_sha256

if TYPE_CHECKING:
    from dataminer.stages.detect.shards import ShardPlan

log = logging.getLogger("dataminer")


def detect_project(
    config: Config,
    project: str,
    weights: Path,
    contact_sheet: Path,
    threads: int = 1,
    *,
    forced_since: float | None = None,
) -> None:
    """Annotate the unique frames of a project, and draw a sample of them as ``contact_sheet``.

    With ``forced_since``, everything that was made before that time is made again.
    """
    from dataminer.formats.contact_sheet import contact_sheet as draw
    from dataminer.stages.detect import shards

    project_id = projects.project_id_of(project)
    detection = _Detection(config, project, model_of(weights), threads, forced_since)
    describe_and_run(partial(detection.describe, project_id), config.monitor)
    if detection.plan:
        shards.prune(detection.plan)
    draw(Store(config.store_path).detect(project), contact_sheet)
    projects.refresh([project_id])


def detect_shards(
    config: Config,
    project: str,
    weights: Path,
    part: int,
    *,
    threads: int = 1,
    forced_since: float | None = None,
) -> None:
    """Make every ``detect.jobs``-th shard of a project, starting with ``part``.

    Claims nothing: the contents of a shard do not depend on who makes it, or how often.
    """
    from dataminer.stages.detect import shards

    def make() -> None:
        plan = plan_shards(config, project, model_of(weights), forced_since)
        shards.make(plan, part=part, parts=config.detect.jobs, threads=threads, progress=log.info)

    restart_on_change(make)


def plan_shards(
    config: Config, project: str, weights: Path, forced_since: float | None = None
) -> ShardPlan:
    """Divide a project's unique frames into the shards that its store has or will have.

    Parameters
    ----------
    config, project : Config, str
        The settings and the project.
    weights : Path
        The detector's file or folder.
    forced_since : float or None
        Shards that were made before this time are made again.
    """
    from dataminer.stages.detect import shards

    store = Store(config.store_path)
    folder = store.detect_shards(project)
    plan = shards.divide_into_shards(store.dedup(project), folder, weights, config.detect)
    return replace(plan, forced_since=forced_since or 0.0)


@dataclass
class _Detection:
    """The annotation of a project's unique frames by one process."""

    config: Config
    project: str
    weights: Path
    threads: int
    forced_since: float | None
    plan: ShardPlan | None = field(default=None, init=False)
    """The shards of the annotations, once they were made."""

    def describe(self, project_id: int) -> StageTask:
        """Describe it as a task, by the present frames."""
        store = Store(self.config.store_path)
        table = store.dedup(self.project) / FRAMES_FILE
        state = states([table])
        meta = results.read_frames_meta(table.parent)
        if meta is None:
            hint = "run snakemake again: it is made again"
            raise DataminerError(f"{table} cannot be read", hint)
        settings = self.config.detect.result_settings()
        unique = meta.get("fingerprint")
        fingerprint = fingerprints.of_detect(settings, weights_sha256(self.weights), unique)
        return StageTask(
            stage=stage_rows.DETECT,
            key={"project_id": project_id},
            final=store.detect(self.project),
            fingerprint=fingerprint,
            make=lambda out: self._make(fingerprint, out),
            read=results.read_detect,
            forced=self.forced_since is not None,
            read_input_state=lambda: states([table]),
            input_state=state,
        )

    def _make(self, fingerprint: str, out: Path) -> None:
        from dataminer.stages.detect import stage

        store = Store(self.config.store_path)
        self.plan = plan_shards(self.config, self.project, self.weights, self.forced_since)
        made = stage.detect(
            self.plan,
            out,
            meta={"fingerprint": fingerprint, "project": self.project},
            videos=_VideoMetadata(store, store.dedup(self.project)),
            threads=self.threads,
            progress=log.info,
        )
        log.info("%d objects in %d images: %s", made.annotations, made.images, made.per_class)


class _VideoMetadata(Mapping[str, Mapping[str, Any]]):
    """The ``info.json`` of each video, read on demand; without one, the metadata of its frames."""

    def __init__(self, store: Store, frames: Path) -> None:
        self._store, self._folder = store, frames

    def __getitem__(self, video_id: str) -> Mapping[str, Any]:
        info = results.read_info_or_none(self._store.video(video_id))
        return self._of_frames[video_id] if info is None else info

    @cached_property
    def _of_frames(self) -> dict[str, Mapping[str, Any]]:
        columns = ["video_id", *PROVENANCE]
        table = read_table(self._folder / FRAMES_FILE, columns, schema=FRAMES_SCHEMA)
        return {row["video_id"]: row for row in table.to_pylist()}

    def __iter__(self) -> Iterator[str]:
        return iter(list_names(self._store.video("x").parent))

    def __len__(self) -> int:
        return sum(1 for _ in self)
