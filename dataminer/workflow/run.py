"""One run of Snakemake: its targets, its batches, and the marker files of its jobs."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from dataminer import commands, planning
from dataminer.config import Config
from dataminer.files.reading import list_names
from dataminer.planning import UPTO, Plan
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import Store
from dataminer.store.trash import VIDEO_ID
from dataminer.sync import config_files
from dataminer.sync.batches import partition
from dataminer.sync.batches.batch_list import BatchList, done_file
from dataminer.sync.claims.owners import owner_name
from dataminer.sync.pairing.check import PairingStep, require_pair

RUNS = Path(".snakemake", "dataminer")
"""The marker files of each run's finished jobs, beside Snakemake's own records."""
_LOCAL_BATCH_SECONDS = 1800.0  # approximate length of a batch on one machine, by a slow estimate
_STARTUP_MINUTES = 10  # run time of a cluster job in addition to that of its videos
_SLOWEST = 2.0  # factor from the estimate to a cluster job's run time


@dataclass(frozen=True)
class Cluster:
    """The length and size of jobs that a cluster's profile sets.

    Parameters
    ----------
    minutes : float
        Approximate length of a job.
    slots : int
        How many videos a job processes in parallel.
    most : int
        Maximum number of videos per job.
    """

    minutes: float
    slots: int
    most: int


def new_name() -> str:
    """Return a unique name for a run."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def upto(targets: Iterable[str]) -> str:
    """Return the last stage that these target rules need."""
    stages = {f"only_{stage}": stage for stage in UPTO}
    found = [stages.get(target, "report") for target in targets]
    return max(found, key=UPTO.index, default="report")


def forced(rules: Iterable[str], *, everything: bool) -> frozenset[str]:
    """Return the stages whose results are remade if these rules are forced.

    Filtered frames are remade together with extracted ones, because they share files.
    """
    named = {rule.removesuffix("_shards") for rule in rules}
    of_videos = ("download", "extract", "filter")
    first = next((index for index, stage in enumerate(of_videos) if stage in named), 3)
    every = (*of_videos, "dedup", "detect", "report")
    return frozenset(every if everything else {*named, *of_videos[first:]} & {*every})


@dataclass(frozen=True)
class Run:
    """The plan of one run of Snakemake.

    Parameters
    ----------
    config : Config
        The settings.
    name : str
        The run's name, which is part of its jobs' marker files.
    upto : str
        The last stage to run, see :func:`upto`.
    forced : set of str
        Rules whose results are remade.
    cores : int
        The cores of this machine for this run.
    cluster : Cluster, optional
        The cluster that runs the jobs; None for this machine.
    files : sequence of Path, optional
        The configuration files, if the projects remember others.
    """

    config: Config
    name: str = field(default_factory=new_name)
    upto: str = "report"
    forced: frozenset[str] = frozenset()
    cores: int = 1
    cluster: Cluster | None = None
    files: Sequence[Path] | None = None

    @cached_property
    def to_adopt(self) -> bool:
        """Whether rows lag behind the files of the store or the run's settings."""
        if self.plan.to_adopt:
            return True
        if (
            self.pairing_step not in (PairingStep.NOTHING, PairingStep.REPLACED)
            and not self._is_busy
        ):
            return True  # this starts a run, which updates them first
        if self.files is None:
            return False
        return not config_files.are_remembered(self.config.project_names, self.files)

    @property
    def _is_busy(self) -> bool:
        projects = ((p, s) for p, stages in self.plan.projects.items() for s in stages)
        return any(self.members.values()) or any(self.plan.is_due(p, s) for p, s in projects)

    @cached_property
    def pairing_step(self) -> PairingStep:
        """What the run does first to keep its store and its database a pair."""
        return require_pair(Store(self.config.store_path))

    @cached_property
    def plan(self) -> Plan:
        """What is left to do; read once from the database."""
        projects = self.config.project_names
        return planning.plan(self.config, projects, upto=self.upto, forced=self.forced)

    def is_done(self) -> bool:
        """Return whether all targets exist by now, except for permanent failures."""
        return planning.plan(self.config, self.config.project_names, upto=self.upto).is_done

    def reasons(self) -> Iterator[str]:
        """Yield what is left to do and why; files without a row are only reported."""
        yield from self.plan.reasons()
        store = Store(self.config.store_path)
        for project, members in self.plan.members.items():
            found = list_names(store.filtered(project, "x").parent, VIDEO_ID)
            if unknown := len(found - members.keys()):
                videos = "1 video has" if unknown == 1 else f"{unknown} videos have"
                yield (
                    f"project {project}: {videos} files and no row, as after an older dump."
                    f" Next: `{commands.dataminer('sync', '--project', project)}` restores the"
                    " rows"
                )

    @property
    def folder(self) -> Path:
        """The folder of marker files for finished jobs of this run."""
        return RUNS / self.name

    @cached_property
    def listed(self) -> BatchList:
        """The batches in the form that jobs read."""
        datasets = {
            project: [stage for stage in stages if self.plan.is_due(project, stage)]
            for project, stages in self.plan.projects.items()
        }
        return BatchList(
            self.folder,
            self.members,
            owner_name(),
            self.slots,
            self._at_once,
            sorted(self.forced),
            datasets,
            self.config.project_names,
        )

    @property
    def _at_once(self) -> int:
        return self.config.download.concurrent_downloads

    @property
    def adopted(self) -> Path:
        """The marker file that rows agree with files."""
        return self.folder / "adopted"

    def left(self) -> list[str]:
        """Return the files that no other run will need."""
        done = [file for rule in self.members for file in self.listed.done_files(rule)]
        return [str(self.listed.path), str(self.adopted), *done]

    @property
    def slots(self) -> int:
        """How many videos a job processes in parallel, if it has that many."""
        return self.cluster.slots if self.cluster else self.cores

    @cached_property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The batches by name: each video with something due is in one, for all its stages."""
        due = {v for stage in ("download", "extract") for v in self.plan.due(stage)}
        due |= {v for project in self.plan.members for v in self.plan.due("filter", project)}
        seconds = {video_id: self._estimate(video_id) for video_id in due}
        alone = self.plan.suspects & due
        count, most = self._count(len(due), sum(seconds.values()))
        parts = partition.partition(due, seconds, count=count, most=most, alone=alone)
        return {partition.batch_name(part): part for part in parts}

    def _estimate(self, video_id: str) -> float:
        """Return approximately how many seconds a slot of a job needs for a video in this run."""
        length = self.plan.lengths.get(video_id)
        if self.upto == "download":  # the number of parallel downloads does not depend on the slots
            at_once = partition.share_of_several(self._at_once)
            return self.slots * partition.estimate_download(length, at_once)
        return partition.estimate(length)

    def _count(self, videos: int, seconds: float) -> tuple[int, int | None]:
        """Return the number of batches, and the maximum number of videos in one."""
        if isinstance(self.config.batch_videos, int):
            most = self.config.batch_videos
            return max(1, math.ceil(videos / most)), most
        if self.cluster:
            per_job = self.cluster.minutes * 60 * self.slots
            return max(1, math.ceil(seconds / per_job)), self.cluster.most
        if videos <= partition.MAX_ONE_VIDEO_BATCHES:
            return max(1, videos), 1
        return max(1, math.ceil(seconds / (_LOCAL_BATCH_SECONDS * self.slots))), None

    @cached_property
    def members(self) -> dict[str, dict[str, list[str]]]:
        """The videos with something due, by rule and batch."""
        due = {stage: set(self.plan.due(stage)) for stage in ("download", "extract")}
        due |= {f"filter/{p}": set(self.plan.due("filter", p)) for p in self.plan.members}
        found = {rule: self._in_batches(videos) for rule, videos in due.items()}
        models = FrameModels.of(self.config)
        if models.on and self.plan.members:
            parts = models.batches(self._without_outputs(models))
            found["embed"] = {partition.batch_name(part): list(part) for part in parts}
        return found

    def _without_outputs(self, models: FrameModels) -> list[str]:
        """Return the videos that models must be run on before filtering."""
        plan = self.plan
        videos = {v for project in plan.members for v in plan.due("filter", project)}
        if models.compares:  # dedup compares embeddings
            comparing = (project for project in plan.projects if plan.is_due(project, "dedup"))
            videos |= {v for project in comparing for v in plan.members[project]}
        new = videos & set(plan.due("extract"))
        frames = {v: plan.frames[v] for v in videos - new if v in plan.frames}
        return sorted(({*models.outdated_videos(frames)} | new) - plan.failed)

    def _in_batches(self, videos: set[str]) -> dict[str, list[str]]:
        found = {name: [v for v in part if v in videos] for name, part in self.parts.items()}
        return {name: part for name, part in found.items() if part}

    def model_outputs(self, project: str, batch: str | None = None) -> list[str]:
        """Return the inputs for filtering a batch, or for comparing the videos of a project."""
        rule = f"filter/{project}"
        videos = set(self.members[rule][batch] if batch else self.plan.members[project])
        parts = self.members.get("embed", {}).items()
        return [
            self._done_file("embed", name) for name, part in parts if not videos.isdisjoint(part)
        ]

    def extracted(self, batch: str) -> list[str]:
        """Return the inputs for running models on a batch."""
        videos = set(self.members["embed"][batch])
        parts = self.members["extract"].items()
        return [
            self._done_file("extract", name) for name, part in parts if not videos.isdisjoint(part)
        ]

    def _done_file(self, rule: str, batch: str) -> str:
        return done_file(self.folder, rule, batch)

    def minutes(self, rule: str, batch: str, attempt: int) -> int:
        """Return the run time to request from a cluster."""
        videos: Sequence[str] = self.members[rule][batch]
        each = [self._estimate(video_id) for video_id in videos]
        seconds = max(sum(each) / self.slots, *each) * _SLOWEST
        return attempt * math.ceil(_STARTUP_MINUTES + seconds / 60)
