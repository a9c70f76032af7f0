"""What a report shows from the database and not from files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dataminer.text import cut
from dataminer.urls import SourceUrl

Costs = dict[str, dict[str, Any]]

_LONGEST = 200  # characters of an untrusted text: a page of 200 videos must stay small
_LONGEST_LINK = 500  # characters


@dataclass(frozen=True)
class VideoFacts:
    """A video of a project.

    Parameters
    ----------
    video_id : str
        The video.
    url : SourceUrl
        Where it comes from.
    title : str or None
        Its title at the source: untrusted text.
    status, member_status : str
        Status of the video, and of the video in the project.
    error_class, error : str or None
        Why it failed; the next step comes after ``Next:``.
    warning : str or None
        What a user should know about how it was decoded.
    costs : dict
        Cost of each stage's result, see :func:`dataminer.sync.tasks.costs.measured`.
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
        """Its title, cut if it is very long; its id if it has no title."""
        return cut(self.title or self.video_id, _LONGEST)

    @property
    def link(self) -> str | None:
        """Its URL if a page can link to it: on the web, short, and with no part of it masked."""
        url = str(self.url)
        on_web = url.startswith(("https://", "http://"))
        return url if on_web and self.url.is_whole and len(url) < _LONGEST_LINK else None

    @property
    def failed(self) -> bool:
        """Whether it failed, as a video or in this project."""
        return "FAILED" in (self.status, self.member_status)


@dataclass(frozen=True)
class ProjectFacts:
    """What the database has on a project.

    Parameters
    ----------
    project, stage : str
        Its name and its stage.
    videos : tuple of VideoFacts
        All its videos, ordered by id.
    costs : dict
        Cost of the stages that run once per project.
    """

    project: str
    stage: str
    videos: tuple[VideoFacts, ...] = field(default=())
    costs: Costs = field(default_factory=dict)

    @cached_property
    def names(self) -> dict[str, str]:
        """The display name of each video, by id."""
        return {video.video_id: video.name for video in self.videos}

    @property
    def downloaded(self) -> int:
        """How many videos have been downloaded."""
        return sum(
            video.status in ("DOWNLOADED", "EXTRACTING", "EXTRACTED") for video in self.videos
        )

    @property
    def failures(self) -> Counter[str]:
        """Number of failed videos per error class."""
        return Counter(video.error_class or "internal" for video in self.videos if video.failed)
