"""Download: from a link or a local path to one video file and its provenance."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError, os_error_class
from dataminer.files.copying import link_or_copy
from dataminer.files.hashing import sha256_file
from dataminer.files.publishing import atomic_write
from dataminer.net.rate_limit import LocalRateLimiter, RateLimiter
from dataminer.stages.download.fetch import fetch
from dataminer.stages.download.info import make_info
from dataminer.stages.download.request import DownloadRequest, FetchedVideo, Report
from dataminer.store.layout import INFO_FILE
from dataminer.urls import SourceUrl

_ID = re.compile(r"[A-Za-z0-9_-]+")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True)
class DownloadResult:
    """A video in its folder, and what is known about it."""

    video: Path
    info: dict[str, Any]


def download(
    url: SourceUrl | str,
    out: Path,
    video_id: str,
    settings: DownloadConfig,
    *,
    trusted: bool = True,
    partial_folder: Path | None = None,
    meta: dict[str, Any] | None = None,
    progress: Report | None = None,
    limiter: RateLimiter | None = None,
) -> DownloadResult:
    """Fetch one video, or link it from this machine, and write ``info.json`` beside it.

    The parameters are those of :class:`~dataminer.stages.download.request.DownloadRequest`. By
    default, this process applies the rate limits alone. After an error, the folder has nothing of
    this video.

    Raises
    ------
    PermanentError
        POLICY, LIVE, what a site reports (REMOVED, PRIVATE, GEO, …), UNSUPPORTED, MISSING_SOURCE,
        and the errors of :func:`dataminer.video.info.probe`: EMPTY, NO_VIDEO, CORRUPT.
    TransientError
        NETWORK, SERVER, RATE_LIMIT, BOT_CHECK, BLOCKED, TIMEOUT, UNCHECKED, and those of this
        machine: DISK_FULL, DISK, PERMISSION, MISSING_TOOL, COOKIES, INTERNAL.
    """
    if not _ID.fullmatch(video_id):
        raise ValueError(f"not a video_id: {video_id!r}")
    source = url if isinstance(url, SourceUrl) else SourceUrl(url)
    report = progress or (lambda line: None)
    limiter = limiter or LocalRateLimiter(settings.budget)
    request = DownloadRequest(source, out, video_id, settings, limiter, report)
    request = replace(request, trusted=trusted, partial_folder=partial_folder, meta=meta or {})
    return _deliver(request)


def _deliver(request: DownloadRequest) -> DownloadResult:
    _clear(request)
    try:
        fetched = _obtain(request)
        info = {**request.meta, **make_info(request, fetched)}
        with atomic_write(request.out / INFO_FILE) as partial:
            partial.write_text(json.dumps(info, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        _clear(request)
        about = f" ({error.filename})" if error.filename else ""
        message = f"{request.url} cannot be stored: {error.strerror or error}{about}"
        raise TransientError(message, os_error_class(error)) from error
    except BaseException:
        _clear(request)
        raise
    return DownloadResult(fetched.path, info)


def _clear(request: DownloadRequest) -> None:
    for path in request.out.iterdir():
        if path.name.startswith(f"{request.video_id}.") or path.name == INFO_FILE:
            path.unlink(missing_ok=True)


def _obtain(request: DownloadRequest) -> FetchedVideo:
    scheme = _SCHEME.match(request.url.reveal())
    if scheme is None:
        if not request.trusted:
            raise _not_trusted(request)
        return _link_local(Path(request.url.reveal()), request)
    if scheme[1].lower() not in {"http", "https"}:
        message = f"{scheme[1]}:// links are not supported"
        raise PermanentError(message, ErrorClass.UNSUPPORTED, "give an http(s) link or a path")
    return fetch(request)


def _not_trusted(request: DownloadRequest) -> PermanentError:
    return PermanentError(
        f"{request.url} is named only by files in the store, which others may have changed",
        ErrorClass.UNSUPPORTED,
        "if it is yours, list it under `input` and run `dataminer populate`, then `dataminer retry"
        f" --video {request.video_id}`",
    )


def _link_local(source: Path, request: DownloadRequest) -> FetchedVideo:
    if not source.exists():
        raise PermanentError(f"{source} is not there", ErrorClass.MISSING_SOURCE)
    if not source.is_file():  # reading a pipe might never end
        raise PermanentError(f"{source} is not a regular file", ErrorClass.MISSING_SOURCE)
    path = request.out / request.file_name(source.suffix)
    # resolved: on Linux, os.link would link to a symbolic link instead of its target
    linked = link_or_copy(source.resolve(), path, reflink=True)
    return FetchedVideo(path, {"linked": linked, "extractor": "local"})


def is_changed_link(video: Path, info: Mapping[str, Any]) -> bool:
    """Return whether a local source was modified after the store took it as a hard link.

    If the file system can share blocks, the stored file is independent. Otherwise a hard link costs
    neither time nor space, but is read through before each use.

    Parameters
    ----------
    video : Path
        The file in the store.
    info : Mapping
        The content of its ``info.json``.
    """
    try:
        if video.stat().st_nlink == 1:
            return False
    except FileNotFoundError:
        return False  # extract reports it
    return sha256_file(video) != info.get("sha256")
