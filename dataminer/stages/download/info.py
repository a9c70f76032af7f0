"""``info.json``: what is known about a video, from its source and from its file."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dataminer.errors import CHECK_LINK, ErrorClass, PermanentError
from dataminer.files.hashing import sha256_file
from dataminer.net.ytdlp_errors import SIGNATURE_HINT
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.download.request import DownloadRequest, FetchedVideo
from dataminer.text import clean
from dataminer.urls import SourceUrl, without_parameters
from dataminer.video.info import VideoInfo, plausible_duration, probe
from dataminer.video.limits import FileLimits

_MAX_TEXT = 1000
_NO_VIDEO = (ErrorClass.EMPTY, ErrorClass.CORRUPT, ErrorClass.NO_VIDEO)
_VIDEO_TYPE = re.compile("video/.*|.*/octet-stream")  # the latter may be anything
_SNIFFED = 512  # bytes, to tell text from anything else
_TEXT_BYTES = bytes([*range(0x20, 0x100), *b"\t\n\f\r"])


def origin_of(info: dict[str, Any]) -> dict[str, Any]:
    """Return the facts worth keeping of yt-dlp's several hundred, and where and when it ran."""
    import yt_dlp.version

    return {
        "webpage_url": _text(SourceUrl(str(info.get("webpage_url") or "")).stored),
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
    """Return the title; if yt-dlp made it from the end of a URL, without secrets."""
    title = info.get("title")
    url = unquote(unquote(str(info.get("webpage_url") or "")))
    return without_parameters(title) if isinstance(title, str) and title in url else title


def make_info(request: DownloadRequest, fetched: FetchedVideo) -> dict[str, Any]:
    """Return the content of ``info.json``.

    Raises
    ------
    PermanentError
        EMPTY, NO_VIDEO, CORRUPT or UNSUPPORTED, if the file is no video.
    """
    video, origin = _probe(request, fetched), fetched.origin
    texts = {
        key: origin.get(key) or request.meta.get(key)
        for key in ("title", "uploader", "licence", "upload_date")
    }
    return {
        "stage": "download",
        "version": VERSIONS["download"],
        "video_id": request.video_id,
        "video": fetched.path.name,
        "url": request.url.stored,
        "webpage_url": origin.get("webpage_url"),
        **texts,
        "duration": video.duration or origin.get("duration"),
        "format": _format(video, fetched),
        "size_bytes": fetched.path.stat().st_size,
        "sha256": sha256_file(fetched.path),
        "extractor": origin.get("extractor"),
        "yt_dlp_version": origin.get("yt_dlp_version"),
        "downloaded_at": origin.get("downloaded_at"),
        "linked": origin.get("linked"),
    }


def _probe(request: DownloadRequest, fetched: FetchedVideo) -> VideoInfo:
    """Probe a video file; if it is none, the error names what the link's server sent."""
    settings = request.settings
    try:
        limits = FileLimits("download", settings.max_megapixels, settings.max_memory_mb)
        return probe(fetched.path, limits)
    except PermanentError as error:
        if fetched.content_type is not None and error.error_class is ErrorClass.DRM:
            raise PermanentError(f"{request.url}: {error.message}", ErrorClass.DRM) from error
        if fetched.content_type is None or error.error_class not in _NO_VIDEO:
            raise
        raise _no_video(request.url, fetched.path, fetched.content_type, error) from error


def _no_video(
    url: SourceUrl, path: Path, content_type: str, error: PermanentError
) -> PermanentError:
    size = f"{path.stat().st_size:,} bytes"
    if error.error_class is ErrorClass.CORRUPT and _is_text(path):
        is_named = content_type and not _VIDEO_TYPE.fullmatch(content_type)
        kind = content_type if is_named else "text"
        message = f"{url}: the server sent {kind} ({size}) instead of a video"
        hint = SIGNATURE_HINT if url.is_signed else CHECK_LINK
        return PermanentError(message, ErrorClass.UNSUPPORTED, hint)
    sent = f"{content_type} ({size})" if content_type else size
    hint = error.hint if error.error_class is ErrorClass.NO_VIDEO else CHECK_LINK
    message = f"{url}: the server sent {sent}: {error.message}"
    return PermanentError(message, error.error_class, hint)


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        return not file.read(_SNIFFED).translate(None, _TEXT_BYTES)


def _format(video: VideoInfo, fetched: FetchedVideo) -> dict[str, Any]:
    return {
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "fps": round(video.average_rate, 3) if video.average_rate else None,
        "format_id": fetched.origin.get("format_id"),
        "ext": fetched.path.suffix.lstrip("."),
    }


def _text(value: Any) -> str | None:
    return None if value is None else clean(str(value), _MAX_TEXT) or None
