"""The boxes of a project's unique frames, made by several jobs for the one that records them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import Config
from dataminer.store.layout import Store
from dataminer.sync.jobs.task import undisturbed
from dataminer.vision.weights import model_of

if TYPE_CHECKING:
    from dataminer.stages.detect.shards import ShardPlan

log = logging.getLogger("dataminer")


def plan(
    config: Config, project: str, weights: Path, forced_since: float | None = None
) -> ShardPlan:
    """Part a project's unique frames into the shards that its store has or will have.

    Parameters
    ----------
    config : Config
        The settings.
    project : str
        The project's name.
    weights : Path
        The detector's file or folder.
    forced_since : float or None
        Shards that were made before this time are made anew.
    """
    from dataminer.stages.detect import shards

    store = Store(config.store_path)
    folder = store.detect_shards(project)
    made = shards.plan(store.dedup(project), folder, weights, config.detect)
    return replace(made, forced_since=forced_since or 0.0)


def detect_shards(
    config: Config,
    project: str,
    weights: Path,
    part: int,
    *,
    threads: int = 1,
    forced_since: float | None = None,
) -> None:
    """Make every ``detect.jobs``-th shard of a project, from ``part`` on.

    Claims nothing: what a shard holds does not depend on who makes it, or how often.
    """
    from dataminer.stages.detect import shards

    def make() -> None:
        made = plan(config, project, model_of(weights), forced_since)
        shards.make(made, part=part, parts=config.detect.jobs, threads=threads, progress=log.info)

    undisturbed(make)
