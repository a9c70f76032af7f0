"""What a video file says about itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from dataminer.video.display.geometry import Geometry, StreamGeometry
from dataminer.video.first_frame import first_orientation
from dataminer.video.limits import DEFAULT_LIMITS, FileLimits
from dataminer.video.opening import open_video
from dataminer.video.streams import counted_frames, moving_streams

_MAX_DURATION = 366 * 86400.0  # seconds; a longer declared duration is not believed
_MAX_FRAMES = 1 << 30  # what an AVI that was written to a pipe declares
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself, before all of it is decoded."""

    codec: str
    width: int
    """Square pixels as displayed: cropped as the file says, and turned."""
    height: int
    """Square pixels as displayed: cropped as the file says, and turned."""
    rotation: int
    """Degrees clockwise by which stored frames are turned for display: 0, 90, 180 or 270."""
    average_rate: float | None
    """Frames per second."""
    duration: float | None
    """Seconds, as declared; None if the file does not say (live Matroska)."""
    declared_frames: int | None
    """Frames as declared; None if the file does not say."""
    size_bytes: int
    container: str
    """libav's name of the format, such as ``mov,mp4,m4a,3gp,3g2,mj2``."""
    stream_index: int = 0
    """Index of the stream among all streams of the file."""
    video_streams: int = 1
    """Video streams that are not marked as still pictures, of which this is one."""


def probe(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> VideoInfo:
    """Find out what a video file is; decodes its first frame at most.

    Parameters
    ----------
    path : Path
        A file on a local disk.
    limits : FileLimits
        What the file may cost. A first frame that needs more memory is not decoded.

    Raises
    ------
    PermanentError
        As :func:`dataminer.video.opening.open_video`.
    TransientError
        As :func:`dataminer.video.opening.open_video`.
    """
    return limits.within_memory(path, _probe, path, limits)


def _probe(path: Path, limits: FileLimits) -> VideoInfo:
    info = _probe_opened(path, limits, fast_open=True)
    return info if info.average_rate else _probe_opened(path, limits, fast_open=False)


def _probe_opened(path: Path, limits: FileLimits, *, fast_open: bool) -> VideoInfo:
    with open_video(path, fast_open=fast_open, limits=limits) as (container, stream):
        info = read_headers(container, stream, path.stat().st_size)
        if fast_open and not info.average_rate:
            return info
        geometry = StreamGeometry(path, container, stream)
        orientation = first_orientation(container, stream, path.name, limits)
        return as_displayed(info, geometry.of_frame(orientation))


def read_headers(container: InputContainer, stream: VideoStream, size_bytes: int) -> VideoInfo:
    """Collect what the headers say; sizes are as stored, see :func:`as_displayed`."""
    frames = stream.frames or counted_frames(stream)
    return VideoInfo(
        codec=stream.codec.name,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        rotation=0,
        average_rate=float(stream.average_rate) if stream.average_rate else None,
        duration=_declared_duration(container, stream),
        declared_frames=frames if 0 < frames < _MAX_FRAMES else None,
        size_bytes=size_bytes,
        container=container.format.name,
        stream_index=stream.index,
        video_streams=len(moving_streams(container)),
    )


def as_displayed(info: VideoInfo, geometry: Geometry) -> VideoInfo:
    """Replace stored sizes by displayed ones."""
    width, height = geometry.displayed_size(info.width, info.height)
    return replace(info, width=width, height=height, rotation=geometry.orientation.degrees)


def _declared_duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return plausible_duration(float(stream.duration * stream.time_base))
    # Matroska: the track's own length, as audio may go on for longer
    clock = _CLOCK.match(stream.metadata.get("DURATION", ""))
    if clock:
        hours, minutes, seconds = clock.groups()
        return plausible_duration(int(hours) * 3600 + int(minutes) * 60 + float(seconds))
    if container.duration is not None:
        return plausible_duration(container.duration / av.time_base)
    return None


def plausible_duration(seconds: object) -> float | None:
    """Return a declared duration if it is a number between 0 and one year, otherwise None."""
    if not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_DURATION:
        return None
    return seconds
