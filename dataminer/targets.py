"""What the Snakefile asks of the database: one query a project, and nothing is ever written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from dataminer.config import Config
from dataminer.db.connection import reading
from dataminer.db.enums import ProjectVideoStatus, VideoStatus
from dataminer.db.tables import NoTables
from dataminer.errors import DataminerError
from dataminer.files import fingerprint
from dataminer.frames import FRAMES_FILE
from dataminer.stages import made_with, policy_mark
from dataminer.store import INFO_FILE, Store

# Projects of up to so many videos are planned whole, finished videos and all, for the sake of the
# pictures and the report; that takes seconds.
PLANNED_WHOLE = 500

_MEMBERS = """
SELECT pv.video_id, v.duration, v.status, v.downloaded_with, v.extracted_with,
    pv.status, pv.filtered_with
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE p.name = %(project)s ORDER BY pv.video_id COLLATE "C"
"""

_POPULATE = "add some with `dataminer populate --config FILE` or `dataminer add-video URL --project"
_LOOKS_AT_ONCE = 32  # a look at a file on a network file system is mostly waiting
_V, _PV = VideoStatus, ProjectVideoStatus

# Run time to ask for, in minutes: for each video, and for each minute of it. Generous: extraction
# was measured at 8 (1080p) and 2 (4K) times playing speed on one old core.
_MINUTES = {"download": (2, 0.5), "extract": (2, 0.5), "filter": (1, 0.0)}
_UNKNOWN_SECONDS = 600.0
_DURATIONS: dict[str, float | None] = {}


@dataclass(frozen=True)
class Member:
    """A video of a project, as its rows say.

    Parameters
    ----------
    video_id : str
        The video.
    duration : float or None
        Its length in seconds, where the source told.
    status, member_status : str
        Of the video, and of it in the project.
    downloaded_with, extracted_with, filtered_with : str or None
        :func:`dataminer.stages.made_with` of its results.
    """

    video_id: str
    duration: float | None
    status: str
    downloaded_with: str | None
    extracted_with: str | None
    member_status: str
    filtered_with: str | None


@cache
def members(project: str) -> tuple[Member, ...]:
    """Return all videos of a project, failed ones included, in the order of their ids.

    Failed videos stay targets: their results say so, and dedup's set of inputs must not change
    because one failed.

    Raises
    ------
    DataminerError
        When the project has no videos, or the database no tables yet.
    """
    try:
        with reading(f"targets {project}") as session, session.cursor() as cursor:
            cursor.execute(_MEMBERS, {"project": project})
            found = tuple(Member(*row) for row in cursor.fetchall())
    except NoTables:
        found = ()
    _DURATIONS.update((member.video_id, member.duration) for member in found)
    if not found:
        raise DataminerError(f"project {project} has no videos yet", f"{_POPULATE} {project}`")
    return found


def durations() -> dict[str, float | None]:
    """Return the length in seconds of every video that was asked for so far, where it is known."""
    return _DURATIONS


def video_ids(project: str) -> tuple[str, ...]:
    """Return the ids of all videos of a project, sorted."""
    return tuple(member.video_id for member in members(project))


def digest(project: str) -> str:
    """Return what changes when a video joins or leaves a project."""
    return fingerprint(video_ids(project))


@dataclass(frozen=True)
class Targets:
    """What a run has to see to: every video with something left to do, and none that is finished.

    A video is finished when its rows say so, its results were made with the settings of this run,
    and their files stand, each no older than the one it was made from: what Snakemake would find
    out by itself, at a dozen times the cost. Snakemake plans 30,000 jobs for 10,000 videos in half
    a minute, done or not.

    Parameters
    ----------
    config : Config
        The settings.
    whole : bool
        Take finished videos for unfinished ones, for Snakemake to judge.
    planned_whole : int
        Do so anyway for projects of up to so many videos.
    """

    config: Config
    whole: bool = False
    planned_whole: int = field(default=PLANNED_WHOLE)

    def infos(self, projects: Iterable[str]) -> list[str]:
        """Return the ``info.json`` of each video of these projects that is to be downloaded."""
        videos = self._of_all(projects, "download")
        return [str(self._store.video(video_id) / INFO_FILE) for video_id in videos]

    def frames(self, projects: Iterable[str]) -> list[str]:
        """Return the frame table of each video of these projects that is to be extracted."""
        videos = self._of_all(projects, "extract")
        return [str(self._store.frames(video_id) / FRAMES_FILE) for video_id in videos]

    def filtered(self, projects: Iterable[str]) -> list[str]:
        """Return the filtered table of each video of these projects that is to be filtered."""
        return [
            str(self._store.filtered(project, video_id) / FRAMES_FILE)
            for project in dict.fromkeys(projects)
            for video_id in self.left(project, "filter")
        ]

    def unseen(
        self,
        projects: Iterable[str],
        results: Callable[[str], list[Path]],
        models: Iterable[Path],
        *,
        everyone: bool = False,
    ) -> list[str]:
        """Return the videos to be filtered that a model has still to look at, sorted.

        Parameters
        ----------
        projects : iterable of str
            The projects of the run.
        results : callable
            The files that models make of a video.
        models : iterable of Path
            The models' files; what is older than one was made by another.
        everyone : bool
            Take those in that are filtered, too: a later stage needs what the models see.
        """
        unfinished = replace(self, planned_whole=0)  # whatever is planned for the pictures' sake
        names = list(projects)
        moving = set(unfinished._of_all(names, "extract"))
        videos = unfinished._of_all(names, "filter")
        if everyone:
            of_all = (member for name in names for member in members(name))
            there = {member.video_id for member in of_all if member.status != _V.FAILED}
            videos = sorted(there | set(videos))
        frames = _times([self._store.frames(video_id) / FRAMES_FILE for video_id in videos])
        seen = _times([path for video_id in videos for path in results(video_id)])
        newest = max((time or math.inf for time in _times(list(models))), default=0.0)
        each = len(seen) // len(videos) if videos else 0
        return [
            video_id
            for place, (video_id, time) in enumerate(zip(videos, frames, strict=True))
            if video_id in moving
            or min(when or 0.0 for when in seen[place * each :][:each]) < max(time or 0.0, newest)
        ]

    def inputs_of_dedup(self, project: str) -> list[str]:
        """Return the filtered tables that are to be made, and the newest of the others.

        It stands for all of them: when one of them is newer than the result, it is.
        """
        tables = {
            video_id: self._store.filtered(project, video_id) / FRAMES_FILE
            for video_id in video_ids(project)
        }
        left = dict.fromkeys(self.left(project, "filter"))
        others = [table for video_id, table in tables.items() if video_id not in left]
        dated = [(time, table) for time, table in zip(_times(others), others, strict=True) if time]
        newest = [max(dated)[1]] if dated else []
        return [str(table) for table in [*(tables[video_id] for video_id in left), *newest]]

    def batches(self, projects: Iterable[str], minutes: float, most: int) -> dict[str, int]:
        """Put the videos with something left to do into batches of about the same work.

        Parameters
        ----------
        projects : iterable of str
            The projects of the run.
        minutes : float
            The work of a batch, as :meth:`minutes` estimates it for one video after the other.
        most : int
            No batch holds more videos.

        Returns
        -------
        dict of str to int
            The number of the batch of each video, from 0.
        """
        numbers: dict[str, int] = {}
        number, work, size = 0, 0.0, 0
        for video_id in self._of_all(projects, "filter"):
            cost = max(self._estimate(stage, video_id) for stage in _MINUTES)
            if size and (work + cost > minutes or size >= most):
                number, work, size = number + 1, 0.0, 0
            numbers[video_id] = number
            work, size = work + cost, size + 1
        return numbers

    def minutes(self, stage: str, wildcards: Mapping[str, str], attempt: int) -> int:
        """Return the run time to ask for when a stage works on one video.

        Parameters
        ----------
        stage : str
            ``download``, ``extract`` or ``filter``.
        wildcards : Mapping
            The job's: ``video_id`` and, for ``filter``, ``project``.
        attempt : int
            From 1; each asks for more, except for what an earlier one has finished.
        """
        video_id = wildcards["video_id"]
        if attempt > 1 and self._result(stage, wildcards).exists():
            return 1
        return attempt * self._estimate(stage, video_id)

    def _result(self, stage: str, wildcards: Mapping[str, str]) -> Path:
        video_id = wildcards["video_id"]
        if stage == "download":
            return self._store.video(video_id) / INFO_FILE
        if stage == "extract":
            return self._store.frames(video_id) / FRAMES_FILE
        return self._store.filtered(wildcards["project"], video_id) / FRAMES_FILE

    def _estimate(self, stage: str, video_id: str) -> int:
        base, each = _MINUTES[stage]
        seconds = durations().get(video_id) or _UNKNOWN_SECONDS
        return math.ceil(base + each * seconds / 60)

    def left(self, project: str, stage: str) -> tuple[str, ...]:
        """Return the videos of a project with something left to do up to a stage, sorted.

        Parameters
        ----------
        project : str
            The project.
        stage : str
            ``download``, ``extract`` or ``filter``.
        """
        everyone = members(project)
        if self.whole or len(everyone) <= self.planned_whole:
            return video_ids(project)
        claimed = [member for member in everyone if self._says_done(member, stage)]
        standing = self._standing(project, [member.video_id for member in claimed], stage)
        return tuple(m.video_id for m in everyone if m.video_id not in standing)

    @property
    def _store(self) -> Store:
        return Store(self.config.store_path)

    @cached_property
    def _marks(self) -> dict[str, frozenset[str]]:
        config = self.config
        return {
            # a local file is taken as it is, whatever the settings; a refusal is by one policy
            "download": frozenset(
                [
                    made_with("download", None),
                    downloaded := made_with("download", config.download.result_settings()),
                    f"{downloaded} {policy_mark(config.download.policy)}",
                ]
            ),
            "extract": frozenset([made_with("extract", config.extract.result_settings())]),
            "filter": frozenset([made_with("filter", config.filter.result_settings())]),
        }

    def _of_all(self, projects: Iterable[str], stage: str) -> list[str]:
        return sorted({video_id for name in projects for video_id in self.left(name, stage)})

    def _says_done(self, member: Member, stage: str) -> bool:
        if member.downloaded_with not in self._marks["download"]:
            return False
        if stage == "download":
            return member.status in (_V.DOWNLOADED, _V.EXTRACTED, _V.FAILED)
        extracted = member.extracted_with in self._marks["extract"]
        # a video that failed as a download was never extracted
        undone = member.extracted_with is None and member.status == _V.FAILED
        if member.status not in (_V.EXTRACTED, _V.FAILED) or not (extracted or undone):
            return False
        return stage == "extract" or (
            member.member_status in (_PV.FILTERED, _PV.FILTERED_EMPTY, _PV.FAILED)
            and member.filtered_with in self._marks["filter"]
        )

    def _standing(self, project: str, videos: list[str], stage: str) -> frozenset[str]:
        """Return those of the videos whose results up to a stage are there and in order."""
        chains = [
            [self._store.video(video_id) / INFO_FILE for video_id in videos],
            [self._store.frames(video_id) / FRAMES_FILE for video_id in videos],
            [self._store.filtered(project, video_id) / FRAMES_FILE for video_id in videos],
        ][: {"download": 1, "extract": 2, "filter": 3}[stage]]
        times = zip(*(_times(paths) for paths in chains), strict=True)
        return frozenset(
            video_id for video_id, chain in zip(videos, times, strict=True) if _in_order(chain)
        )


def _times(paths: list[Path]) -> list[float | None]:
    """Return when each file was last changed; None where there is none."""
    share = -(-len(paths) // _LOOKS_AT_ONCE) or 1
    shares = [paths[start : start + share] for start in range(0, len(paths), share)]
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        return [time for times in pool.map(_look, shares) for time in times]


def _look(paths: list[Path]) -> list[float | None]:
    times: list[float | None] = []
    for path in paths:
        try:
            times.append(os.stat(path).st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            times.append(None)
    return times


def _in_order(times: tuple[float | None, ...]) -> bool:
    """Tell whether the last result stands, and nothing before it that is there is newer."""
    there = [time for time in times if time is not None]
    return times[-1] is not None and there == sorted(there)
