"""What the report is told of a project that no file says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dataminer.text import cut
from dataminer.urls import SourceUrl

Costs = dict[str, dict[str, Any]]

_LONGEST = 200  # characters of a stranger's text: a page of 200 videos shall stay small
_LONGEST_LINK = 500  # characters


@dataclass(frozen=True)
class Video:
    """A video of a project.

    Parameters
    ----------
    video_id : str
        The video.
    url : SourceUrl
        Where it comes from.
    title : str or None
        As its source names it: a stranger's text.
    status, member_status : str
        Of the video, and of it in the project.
    error_class, error : str or None
        Why it failed, with the next step after ``Next:``.
    warning : str or None
        Why it gave less than it holds.
    costs : dict
        What each stage's result cost, see :func:`dataminer.sync.jobs.costs.measured`.
    """

    video_id: str
    url: SourceUrl
    title: str | None
    status: str
    member_status: str
    error_class: str | None = None
    error: str | None = None
    warning: str | None = None
    costs: Costs = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its title, cut where it is very long; its id where it has none."""
        return cut(self.title or self.video_id, _LONGEST)

    @property
    def link(self) -> str | None:
        """Its URL if a page can link to it: on the web, short, and with no part of it masked."""
        url = str(self.url)
        on_web = url.startswith(("https://", "http://"))
        return url if on_web and self.url.is_whole and len(url) < _LONGEST_LINK else None

    @property
    def failed(self) -> bool:
        """Whether it is given up, as a video or in this project."""
        return "FAILED" in (self.status, self.member_status)


@dataclass(frozen=True)
class Facts:
    """A project, as the database has it.

    Parameters
    ----------
    project, stage : str
        Its name and its stage.
    videos : tuple of Video
        All of them, in the order of their ids.
    costs : dict
        What the project's own stages cost.
    """

    project: str
    stage: str
    videos: tuple[Video, ...] = field(default=())
    costs: Costs = field(default_factory=dict)

    @cached_property
    def names(self) -> dict[str, str]:
        """What to call each video."""
        return {video.video_id: video.name for video in self.videos}

    @property
    def downloaded(self) -> int:
        """Videos whose file was fetched."""
        return sum(
            video.status in ("DOWNLOADED", "EXTRACTING", "EXTRACTED") for video in self.videos
        )

    @property
    def failures(self) -> Counter[str]:
        """Failed videos by class."""
        return Counter(video.error_class or "internal" for video in self.videos if video.failed)
