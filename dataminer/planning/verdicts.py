"""The state of videos and projects in each stage, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

UPTO = ("download", "extract", "filter", "dedup", "report")
"""The stages at which a run can end."""


class VerdictState(StrEnum):
    """The state of a video or a project in a stage."""

    DONE = "done"
    DUE = "due"
    WAITING = "waiting"
    FAILED = "failed"


class Verdict(NamedTuple):
    """The state of a video or a project in a stage, and why.

    Parameters
    ----------
    state : VerdictState
        The state.
    reason : str
        Why it is due or has failed, or until when it waits. Videos with the same reason are counted
        together.
    adopt : bool
        Whether its files show this state and its row does not yet.
    """

    state: VerdictState
    reason: str = ""
    adopt: bool = False


DONE = Verdict(VerdictState.DONE)
NEW, LOST, RETRIED, FETCH_AGAIN = "new", "lost", "to be tried again", "to be fetched again"
BEGUN, BEFORE, FORCED = "begun before", "failed before", "forced"
TRANSIENT = "failed temporarily"
INPUT, SETTINGS = "made from other input", "made with other settings"
UNRECORDED, REPLACED = "not recorded yet", "replaced since its row was written"
KEPT = "cannot be made again"


class SecondFrames(NamedTuple):
    """Videos that get frames of other settings beside those that they have.

    Parameters
    ----------
    videos : int
        The number of videos.
    bytes : int
        The approximate size of the frames that they have.
    """

    videos: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What is left to do for some projects.

    Parameters
    ----------
    videos : dict of str to dict
        For ``download`` and ``extract``, the verdict on each video that was judged.
    members : dict of str to dict
        For each project, the verdict on the filter of each of its videos.
    projects : dict of str to dict
        For each project, the verdict on ``dedup``, ``detect`` and ``report``.
    lengths : dict of str to float
        The length in seconds of each video with work due, as its source declares it or as the size
        of its file suggests.
    frames : dict of str to tuple of str
        For each video with frames, the recipes of those that the projects choose from.
    suspects : set of str
        Videos that were being worked on when a job was killed: they are attempted alone.
    second_frames : SecondFrames
        The videos that will have frames of two recipes.
    """

    videos: Mapping[str, Mapping[str, Verdict]]
    members: Mapping[str, Mapping[str, Verdict]]
    projects: Mapping[str, Mapping[str, Verdict]]
    lengths: Mapping[str, float]
    frames: Mapping[str, tuple[str, ...]]
    suspects: frozenset[str]
    second_frames: SecondFrames

    def due(self, stage: str, project: str | None = None) -> list[str]:
        """Return the videos with work due in a stage, sorted."""
        judged = self.members.get(project, {}) if project else self.videos.get(stage, {})
        return sorted(in_state(judged, VerdictState.DUE))

    def is_due(self, project: str, stage: str) -> bool:
        """Return whether ``dedup``, ``detect`` or ``report`` of a project is due."""
        return self.projects[project][stage].state is VerdictState.DUE

    @property
    def to_adopt(self) -> bool:
        """Whether rows lag behind files."""
        judged = [*self.videos.values(), *self.members.values(), *self.projects.values()]
        return any(verdict.adopt for verdicts in judged for verdict in verdicts.values())

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do, now or later."""
        judged = [*self.videos.values(), *self.members.values(), *self.projects.values()]
        states = {verdict.state for verdicts in judged for verdict in verdicts.values()}
        return states.isdisjoint((VerdictState.DUE, VerdictState.WAITING))

    @property
    def failed(self) -> set[str]:
        """The videos that failed to be downloaded or extracted."""
        judged = self.videos.values()
        return {v for verdicts in judged for v in in_state(verdicts, VerdictState.FAILED)}

    def reasons(self) -> list[str]:
        """Return lines on what is due, per stage, and why; then on what waits or failed."""
        judged = dict(self.videos)
        judged |= {f"filter for project {name}": each for name, each in self.members.items()}
        lines = [_line(stage, each, VerdictState.DUE) for stage, each in judged.items()]
        for project, stages in self.projects.items():
            due = ((name, v.reason) for name, v in stages.items() if v.state is VerdictState.DUE)
            lines += [f"{name} of project {project}: due ({reason})" for name, reason in due]
        reported: set[str] = set()  # they have the same state in later stages
        for stage, each in judged.items():
            own = {video_id: each[video_id] for video_id in each.keys() - reported}
            for state in (VerdictState.WAITING, VerdictState.FAILED):
                lines.append(_line(stage, own, state))
                reported |= {*in_state(own, state)} if stage in self.videos else set()
        kept = sum(v.reason == KEPT for v in self.videos.get("extract", {}).values())
        if kept:
            lines.append(
                f"extract: {kept} done with the frames that there are: new settings would need the"
                " source, which is gone (`dataminer status` says why)"
            )
        second = self.second_frames
        if second.videos:
            size = f"about {second.bytes / 1e6:,.1f} MB"
            lines.append(
                f"extract: {second.videos} due beside frames of other settings, which stay"
                f" ({size}; `dataminer cleanup-orphans` lists those that no project uses)"
            )
        return [line for line in lines if line]


def in_state(verdicts: Mapping[str, Verdict], state: VerdictState) -> list[str]:
    """Return the names of those in a state."""
    return [name for name, verdict in verdicts.items() if verdict.state is state]


def _line(stage: str, verdicts: Mapping[str, Verdict], state: VerdictState) -> str:
    """Return a line on the videos in a state; an empty text if there are none."""
    counts = Counter(v.reason for v in verdicts.values() if v.state is state)
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"{stage}: {counts.total()} {state} ({why})" if counts else ""
