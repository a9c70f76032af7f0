"""What a download is asked for, and the video that it results in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataminer.config.models import DownloadConfig
from dataminer.net.rate_limit import RateLimiter
from dataminer.urls import SourceUrl

Report = Callable[[str], None]

_PLAIN_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_NOT_A_VIDEO_SUFFIX = {".json", ".part", ".temp", ".tmp", ".ytdl"}


@dataclass(frozen=True)
class DownloadRequest:
    """One video to download.

    Parameters
    ----------
    url : SourceUrl
        An http(s) link, or a local path.
    out : Path
        An existing folder; the video becomes ``{video_id}.{suffix}`` in it.
    video_id : str
        Letters, digits, ``-`` and ``_``.
    settings : DownloadConfig
        Size, limits, identity, policy.
    limiter : RateLimiter
        Asked before each HTTP request.
    report : callable
        Gets the progress, one line every few seconds.
    trusted : bool
        Whether the user named the source. Any other leads to public addresses only.
    partial_folder : Path, optional
        A folder on the same file system that keeps an interrupted transfer for the next attempt.
        Only one attempt at a time may use it for this video. None keeps nothing.
    meta : dict
        What the caller knows already; goes into ``info.json`` if the source does not provide it.
    """

    url: SourceUrl
    out: Path
    video_id: str
    settings: DownloadConfig
    limiter: RateLimiter
    report: Report
    trusted: bool = True
    partial_folder: Path | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def file_name(self, suffix: str) -> str:
        """Return the video's file name: with a plain suffix in lower case, else ``.video``."""
        suffix = suffix.lower()
        is_plain = _PLAIN_SUFFIX.fullmatch(suffix) and suffix not in _NOT_A_VIDEO_SUFFIX
        return f"{self.video_id}{suffix if is_plain else '.video'}"


@dataclass(frozen=True)
class FetchedVideo:
    """A video file and where it came from.

    Parameters
    ----------
    path : Path
        The file.
    origin : dict
        What its source says about it.
    content_type : str, optional
        Its type according to the server; None for a local file.
    """

    path: Path
    origin: dict[str, Any]
    content_type: str | None = None
