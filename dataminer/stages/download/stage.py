"""Download: from a link or a local path to one video file and its provenance."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dataminer.config.models import DownloadConfig, PolicyConfig
from dataminer.errors import (
    CHECK_LINK,
    MENDED_BY_SIGNATURE,
    ErrorClass,
    PermanentError,
    StageError,
    TransientError,
    os_error_class,
)
from dataminer.files.copying import link_or_copy
from dataminer.files.hashing import sha256_file
from dataminer.files.publishing import atomic_write
from dataminer.net.rate_limit import LocalRateLimiter, RateLimiter
from dataminer.net.ytdlp_errors import SIGNATURE_HINT
from dataminer.net.ytdlp_options import downloader, secrets_of, stage_error
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.download import plain
from dataminer.stages.download.partial import PartialDownload
from dataminer.stages.download.policy import judge
from dataminer.stages.download.transfer import Transfer
from dataminer.store.layout import INFO_FILE
from dataminer.text import clean
from dataminer.urls import SourceUrl, without_parameters
from dataminer.video.info import VideoInfo, plausible_duration, probe
from dataminer.video.limits import FileLimits

VERSION = VERSIONS["download"]

_ID = re.compile(r"[A-Za-z0-9_-]+")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_PLAIN_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_NOT_A_VIDEO_SUFFIX = {".json", ".part", ".temp", ".tmp", ".ytdl"}
_MAX_TEXT = 1000
_NO_VIDEO = (ErrorClass.EMPTY, ErrorClass.CORRUPT, ErrorClass.NO_VIDEO)
_OF_VIDEO = re.compile("video/.*|.*/octet-stream")  # or of anything
_GLANCE = 512  # bytes, to tell text from anything else
_OF_TEXT = bytes([*range(0x20, 0x100), *b"\t\n\f\r"])

Report = Callable[[str], None]


@dataclass(frozen=True)
class DownloadResult:
    """A video that lies in its folder, and what is known about it."""

    video: Path
    info: dict[str, Any]


@dataclass(frozen=True)
class _Order:
    """What :func:`download` was asked for."""

    url: SourceUrl
    out: Path
    keep: Path | None
    video_id: str
    settings: DownloadConfig
    say: Report
    gate: RateLimiter
    given: bool


@dataclass(frozen=True)
class _Taken:
    path: Path
    origin: dict[str, Any]
    content_type: str | None = None
    """What the server of a link calls it."""


def download(
    url: SourceUrl | str,
    out: Path,
    video_id: str,
    settings: DownloadConfig,
    *,
    given: bool = True,
    keep: Path | None = None,
    meta: dict[str, Any] | None = None,
    progress: Report | None = None,
    gate: RateLimiter | None = None,
) -> DownloadResult:
    """Fetch one video, or take it in from this machine, and write ``info.json`` beside it.

    Parameters
    ----------
    url : SourceUrl or str
        An http(s) link, or a local path.
    out : Path
        An existing folder; the video becomes ``{video_id}.{suffix}`` in it. After an error it
        holds nothing of this video.
    video_id : str
        Letters, digits, ``-`` and ``_``.
    settings : DownloadConfig
        Size, limits, identity, policy.
    given : bool
        Whether the user named the source. One that a stranger may have named leads to public
        addresses only.
    keep : Path, optional
        A folder on the same file system in which a transfer that broke off is kept for the next
        attempt; only one attempt at a time may use it for this video. None to keep nothing.
    meta : dict, optional
        What the caller knows already; goes into ``info.json`` where the source says nothing.
    progress : callable, optional
        Is told how far it is, one line every few seconds.
    gate : RateLimiter, optional
        Asked before each HTTP request; by default this process keeps to the limits by itself.

    Returns
    -------
    DownloadResult
        The file, and what ``info.json`` holds.

    Raises
    ------
    PermanentError
        POLICY, LIVE, what a site says (REMOVED, PRIVATE, GEO, …), UNSUPPORTED, MISSING_SOURCE, and
        what :func:`dataminer.video.info.probe` finds: EMPTY, NO_VIDEO, CORRUPT.
    TransientError
        NETWORK, SERVER, RATE_LIMIT, BOT_CHECK, BLOCKED, TIMEOUT, UNCHECKED, and what is this
        machine's: DISK_FULL, DISK, PERMISSION, MISSING_TOOL, COOKIES, INTERNAL.
    """
    if not _ID.fullmatch(video_id):
        raise ValueError(f"not a video_id: {video_id!r}")
    _clear(out, video_id)
    say = progress or (lambda line: None)
    gate = gate or LocalRateLimiter(settings.budget)
    source = url if isinstance(url, SourceUrl) else SourceUrl(url)
    order = _Order(source, out, keep, video_id, settings, say, gate, given)
    try:
        taken = _take(order)
        info = {**(meta or {}), **_describe(order, taken, meta or {})}
        with atomic_write(out / INFO_FILE) as partial:
            partial.write_text(json.dumps(info, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        _clear(out, video_id)
        about = f" ({error.filename})" if error.filename else ""
        message = f"{order.url} cannot be stored: {error.strerror or error}{about}"
        raise TransientError(message, os_error_class(error)) from error
    except BaseException:
        _clear(out, video_id)
        raise
    return DownloadResult(taken.path, info)


def _clear(out: Path, video_id: str) -> None:
    for path in out.iterdir():
        if path.name.startswith(f"{video_id}.") or path.name == INFO_FILE:
            path.unlink(missing_ok=True)


def _take(order: _Order) -> _Taken:
    scheme = _SCHEME.match(order.url.reveal())
    if scheme is None:
        if not order.given:
            raise _not_given(order)
        return _take_local(Path(order.url.reveal()), order.out, order.video_id)
    if scheme[1].lower() not in {"http", "https"}:
        message = f"{scheme[1]}:// links are not supported"
        raise PermanentError(message, ErrorClass.UNSUPPORTED, "give an http(s) link or a path")
    return _fetch(order)


def _not_given(order: _Order) -> PermanentError:
    video_id = order.video_id
    return PermanentError(
        f"{order.url} is named by the store's files alone, in which others may write",
        ErrorClass.UNSUPPORTED,
        "if it is yours, list it under `input` and run `dataminer populate`, then `dataminer retry"
        f" --video {video_id}`",
    )


def _take_local(source: Path, out: Path, video_id: str) -> _Taken:
    if not source.exists():
        raise PermanentError(f"{source} is not there", ErrorClass.MISSING_SOURCE)
    if not source.is_file():  # a pipe would be waited on for ever
        raise PermanentError(f"{source} is not a regular file", ErrorClass.MISSING_SOURCE)
    path = out / f"{video_id}{_safe_suffix(source.suffix)}"
    # resolved: os.link on Linux would link to a symbolic link, not to its file
    linked = link_or_copy(source.resolve(), path, reflink=True)
    return _Taken(path, {"linked": linked, "extractor": "local"})


def is_changed_link(video: Path, info: Mapping[str, Any]) -> bool:
    """Tell whether a local source was written to after its file was taken as a hard link to it.

    Where the file system can share blocks, the file is one of its own; elsewhere a link costs
    neither time nor space, and is read through before each use instead.

    Parameters
    ----------
    video : Path
        The file in the store.
    info : Mapping
        What its ``info.json`` says.
    """
    try:
        if video.stat().st_nlink == 1:
            return False
    except FileNotFoundError:
        return False  # which extract tells of
    return sha256_file(video) != info.get("sha256")


def _fetch(order: _Order) -> _Taken:
    kept = PartialDownload.take_over(order.keep or order.out, order.video_id)
    before = kept.bytes
    try:
        found, info, content_type = _transfer(order, kept)
        path = order.out / found.name
        os.replace(found, path)
    except BaseException as error:
        if order.keep is None or _is_final(error, order.url):
            kept.remove()
        elif isinstance(error, TransientError):
            error.progressed = kept.bytes > before
        raise
    kept.remove()
    return _Taken(path, _about(info), content_type)


def _is_final(error: BaseException, url: SourceUrl) -> bool:
    """Tell whether there will be no further attempt, with another signature either."""
    if not isinstance(error, PermanentError):
        return False
    return not (url.is_signed and error.error_class in MENDED_BY_SIGNATURE)


def _transfer(order: _Order, kept: PartialDownload) -> tuple[Path, dict[str, Any], str]:
    """Fetch the one file, and say what is known of it, and what its server calls it."""
    settings, shown = order.settings, str(order.url)

    def name(suffix: str) -> str:
        return f"{order.video_id}{_safe_suffix(f'.{suffix}')}"

    url = order.url.reveal()
    transfer = Transfer(url, kept, name, settings, order.say)
    options = {**_OPTIONS, **transfer.options}
    options["format_sort"] = [f"res:{settings.max_height}", *_PREFERRED]
    options["match_filter"] = partial(_refuse, settings.policy, transfer)
    given = url if order.given else ""
    opened = downloader(
        settings, options, say=order.say, gate=order.gate, given=given, watch=transfer.watch
    )
    with transfer.watch.running():
        try:
            with opened as ydl:
                transfer.attach(ydl)
                info = _plain(url, transfer, ydl, settings.policy)
                info = info or ydl.extract_info(url, download=True)
            found = transfer.finished()
        except StageError:
            raise
        except Exception as error:  # extractors of a thousand sites raise anything
            raise stage_error(error, url, secrets_of(settings), transfer.content_type) from error
    if "entries" in info:  # a list: of one video that is there now, or of links to others
        if not found:
            raise _more_than_one(shown)
        info = info["entries"][0]
    if len(found) != 1:
        raise TransientError(f"{shown}: yt-dlp left no file", ErrorClass.INTERNAL)
    return found[0], info, transfer.content_type


def _plain(url: str, transfer: Transfer, ydl: Any, policy: PolicyConfig) -> dict[str, Any] | None:
    """Fetch a plain link to a file; return None if it turns out to be something else."""
    suffix = plain.suffix_of(url)
    if suffix is None:
        return None
    return transfer.plain(ydl, suffix, lambda info: judge(info, policy, str(SourceUrl(url))))


_OPTIONS: dict[str, Any] = {
    # One stream with a picture: as many lines as allowed (else the fewest above), the codec that
    # decodes fastest, no sound; never two streams, which ffmpeg would have to merge.
    "format": "bestvideo*",
    "updatetime": False,
    "fixup": "never",
    "hls_prefer_native": True,
    "extract_flat": "in_playlist",
    "playlist_items": "1:2",  # the second only to know that there is one
}
_PREFERRED = ["vcodec:h264", "+hasaud", "proto"]


def _refuse(
    policy: PolicyConfig, transfer: Transfer, info: dict[str, Any], *, incomplete: Any = False
) -> None:
    """Stop yt-dlp before it fetches what is no single video, or none that is wanted.

    It asks several times: of a list's members (``incomplete`` is True), of a video before its
    format is chosen (then it names what will follow), and of the format that was chosen (False).
    """
    shown = str(SourceUrl(str(info.get("webpage_url") or info.get("url") or "the link")))
    if (info.get("n_entries") or 1) > 1:
        raise _more_than_one(shown)
    if incomplete is True:
        return
    judge(info, policy, shown)
    if not incomplete:
        transfer.begin(info)


def _more_than_one(shown: str) -> PermanentError:
    message = f"{shown}: leads to a list of videos, not to one"
    return PermanentError(message, ErrorClass.UNSUPPORTED, "give the links of its videos")


def _about(info: dict[str, Any]) -> dict[str, Any]:
    """Choose what is kept of yt-dlp's several hundred keys, and add where and when it ran."""
    import yt_dlp.version

    return {
        "webpage_url": _text(SourceUrl(str(info.get("webpage_url") or "")).kept),
        "title": _text(_title(info)),
        "uploader": _text(info.get("uploader") or info.get("channel")),
        "licence": _text(info.get("license")),
        "upload_date": _text(info.get("upload_date")),
        "duration": plausible_duration(info.get("duration")),
        "format_id": _text(info.get("format_id")),
        "extractor": _text(info.get("extractor")),
        "downloaded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "yt_dlp_version": yt_dlp.version.__version__,
    }


def _title(info: dict[str, Any]) -> Any:
    """Return the title; where yt-dlp makes one from the end of a URL, without its secrets."""
    title = info.get("title")
    url = unquote(unquote(str(info.get("webpage_url") or "")))
    return without_parameters(title) if isinstance(title, str) and title in url else title


def _describe(order: _Order, taken: _Taken, meta: dict[str, Any]) -> dict[str, Any]:
    video, origin = _probe(order, taken), taken.origin
    known = {
        key: origin.get(key) or meta.get(key)
        for key in ("title", "uploader", "licence", "upload_date")
    }
    return {
        "stage": "download",
        "version": VERSION,
        "video_id": order.video_id,
        "video": taken.path.name,
        "url": order.url.kept,
        "webpage_url": origin.get("webpage_url"),
        **known,
        "duration": video.duration or origin.get("duration"),
        "format": _format(video, taken),
        "size_bytes": taken.path.stat().st_size,
        "sha256": sha256_file(taken.path),
        "extractor": origin.get("extractor"),
        "yt_dlp_version": origin.get("yt_dlp_version"),
        "downloaded_at": origin.get("downloaded_at"),
        "linked": origin.get("linked"),
    }


def _probe(order: _Order, taken: _Taken) -> VideoInfo:
    """Say what a video file is; if it is none, name what a link's server sent."""
    settings = order.settings
    try:
        limits = FileLimits("download", settings.max_megapixels, settings.max_memory_mb)
        return probe(taken.path, limits)
    except PermanentError as error:
        if taken.content_type is None or error.error_class not in _NO_VIDEO:
            raise
        raise _no_video(order.url, taken.path, taken.content_type, error) from error


def _no_video(
    url: SourceUrl, path: Path, content_type: str, error: PermanentError
) -> PermanentError:
    size = f"{path.stat().st_size:,} bytes"
    if error.error_class is ErrorClass.CORRUPT and _is_text(path):
        is_named = content_type and not _OF_VIDEO.fullmatch(content_type)
        kind = content_type if is_named else "text"
        message = f"{url}: the server sent {kind} ({size}) in place of a video"
        hint = SIGNATURE_HINT if url.is_signed else CHECK_LINK
        return PermanentError(message, ErrorClass.UNSUPPORTED, hint)
    sent = f"{content_type} ({size})" if content_type else size
    hint = error.hint if error.error_class is ErrorClass.NO_VIDEO else CHECK_LINK
    message = f"{url}: the server sent {sent}: {error.message}"
    return PermanentError(message, error.error_class, hint)


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        return not file.read(_GLANCE).translate(None, _OF_TEXT)


def _format(video: VideoInfo, taken: _Taken) -> dict[str, Any]:
    return {
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "fps": round(video.average_rate, 3) if video.average_rate else None,
        "format_id": taken.origin.get("format_id"),
        "ext": taken.path.suffix.lstrip("."),
    }


def _safe_suffix(suffix: str) -> str:
    """Keep a plain suffix in small letters; any other, and none, becomes ``.video``."""
    suffix = suffix.lower()
    if _PLAIN_SUFFIX.fullmatch(suffix) and suffix not in _NOT_A_VIDEO_SUFFIX:
        return suffix
    return ".video"


def _text(value: Any) -> str | None:
    return None if value is None else clean(str(value), _MAX_TEXT) or None
