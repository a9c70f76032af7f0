"""Fetch the one video that a link leads to, resuming what an earlier attempt left."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from dataminer.config.models import PolicyConfig
from dataminer.errors import (
    FIXED_BY_SIGNATURE,
    ErrorClass,
    PermanentError,
    StageError,
    TransientError,
)
from dataminer.net.ytdlp_errors import stage_error
from dataminer.net.ytdlp_options import downloader, secrets_of
from dataminer.stages.download import plain
from dataminer.stages.download.info import origin_of
from dataminer.stages.download.partial import PartialDownload
from dataminer.stages.download.policy import judge
from dataminer.stages.download.request import DownloadRequest, FetchedVideo
from dataminer.stages.download.transfer import Transfer
from dataminer.urls import SourceUrl

_OPTIONS: dict[str, Any] = {
    # One stream with a picture: the most lines allowed (else the fewest above), the codec that
    # decodes fastest, no sound; never two streams, which ffmpeg would have to merge.
    "format": "bestvideo*",
    "updatetime": False,
    "fixup": "never",
    "hls_prefer_native": True,
    "extract_flat": "in_playlist",
    "playlist_items": "1:2",  # the second one only shows that there is more than one
}
_PREFERRED = ["vcodec:h264", "+hasaud", "proto"]


def fetch(request: DownloadRequest) -> FetchedVideo:
    """Fetch the video into its folder; an interrupted transfer is kept for the next attempt.

    Raises
    ------
    PermanentError, TransientError
        See :func:`dataminer.stages.download.stage.download`.
    """
    unfinished = PartialDownload.take_over(request.partial_folder or request.out, request.video_id)
    bytes_before = unfinished.bytes
    try:
        found, info, content_type = _transfer(request, unfinished)
        path = request.out / found.name
        os.replace(found, path)
    except BaseException as error:
        if request.partial_folder is None or _is_final(error, request.url):
            unfinished.remove()
        elif isinstance(error, TransientError):
            error.progressed = unfinished.bytes > bytes_before
        raise
    unfinished.remove()
    return FetchedVideo(path, origin_of(info), content_type)


def _is_final(error: BaseException, url: SourceUrl) -> bool:
    """Return whether no attempt will follow, not even with another signature."""
    if not isinstance(error, PermanentError):
        return False
    return not (url.is_signed and error.error_class in FIXED_BY_SIGNATURE)


def _transfer(
    request: DownloadRequest, unfinished: PartialDownload
) -> tuple[Path, dict[str, Any], str]:
    """Fetch the one file; return it, yt-dlp's facts about it, and its content type."""
    transfer = Transfer(request, unfinished)
    url, label = request.url.reveal(), str(request.url)
    with transfer.deadline.running():
        try:
            with _downloader(request, transfer) as ydl:
                transfer.attach(ydl)
                info = _fetch_plain(request, transfer, ydl)
                info = info or ydl.extract_info(url, download=True)
            found = transfer.finished()
        except StageError:
            raise
        except Exception as error:  # the extractors of a thousand sites raise anything
            secrets = secrets_of(request.settings)
            raise stage_error(error, url, secrets, transfer.content_type) from error
    if "entries" in info:  # a list: of one video, now fetched, or of links to others
        if not found:
            raise _more_than_one(label)
        info = info["entries"][0]
    if len(found) != 1:
        raise TransientError(f"{label}: yt-dlp left no file", ErrorClass.INTERNAL)
    return found[0], info, transfer.content_type


def _downloader(request: DownloadRequest, transfer: Transfer) -> Any:
    settings = request.settings
    options = {**_OPTIONS, **transfer.options}
    options["format_sort"] = [f"res:{settings.max_height}", *_PREFERRED]
    options["match_filter"] = partial(_refuse, settings.policy, transfer)
    return downloader(
        settings,
        options,
        warn=request.report,
        limiter=request.limiter,
        trusted=request.url.reveal() if request.trusted else "",
        deadline=transfer.deadline,
    )


def _fetch_plain(request: DownloadRequest, transfer: Transfer, ydl: Any) -> dict[str, Any] | None:
    """Fetch a plain link to a file; return None if it turns out to be something else."""
    suffix = plain.suffix_of(request.url.reveal())
    if suffix is None:
        return None
    policy, label = request.settings.policy, str(request.url)
    return transfer.fetch_plain(ydl, suffix, lambda info: judge(info, policy, label))


def _refuse(
    policy: PolicyConfig, transfer: Transfer, info: dict[str, Any], *, incomplete: Any = False
) -> None:
    """Stop yt-dlp before it fetches more than one video, or one that the policy refuses.

    yt-dlp calls this for each member of a list (``incomplete`` is True), for a video before its
    format is chosen (a list of what is missing), and for the chosen format (False).
    """
    label = str(SourceUrl(str(info.get("webpage_url") or info.get("url") or "the link")))
    if (info.get("n_entries") or 1) > 1:
        raise _more_than_one(label)
    if incomplete is True:
        return
    judge(info, policy, label)
    if not incomplete:
        transfer.begin(info)


def _more_than_one(label: str) -> PermanentError:
    message = f"{label}: leads to a list of videos, not to one"
    return PermanentError(message, ErrorClass.UNSUPPORTED, "give the links of its videos")
