"""Choosing among the video streams of a file: the film, not the still beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

_STILL_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_FRAME_COUNT_TAG = re.compile(r"NUMBER_OF_FRAMES(?:-\w+)?")  # of mkvmerge
_STATISTICS_DATE_TAG = re.compile(r"_STATISTICS_WRITING_DATE_UTC(?:-\w+)?")
_DIGITS = re.compile(r"\d+")
_COUNTED_PACKETS, _COUNTED_BYTES = 2000, 32 << 20  # of all candidates, from the file's beginning
_FILM_SHARE = 0.5  # of the longest stream's frames; one that has fewer is no film beside it


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are not marked as still pictures."""
    return [s for s in container.streams.video if not s.disposition & _STILL_PICTURES]


def choose_film(
    streams: Sequence[VideoStream], reopen: Callable[[], AbstractContextManager[InputContainer]]
) -> VideoStream:
    """Choose the stream that a player would show.

    Streams of one picture, or of less than half as many frames as the longest, lose to it; among
    the others, the default flag decides, then the number of pixels, then the order. If there are
    only stills, the largest is chosen.

    Parameters
    ----------
    streams : sequence of VideoStream
        At least one.
    reopen : callable
        Opens the file once more, to count packets if the headers do not declare how many there
        are; called only if there are several streams.
    """
    if len(streams) == 1:
        return streams[0]
    declared = {s.index: s.frames or counted_frames(s) for s in streams}
    frames = declared if all(declared.values()) else _count_packets(streams, reopen)
    longest = max(frames.get(s.index, 0) for s in streams)
    if longest <= 1:
        return max(streams, key=_pixels)
    films = [s for s in streams if frames.get(s.index, 0) >= max(longest * _FILM_SHARE, 2)]
    return max(films, key=lambda s: (bool(s.disposition & Disposition.default), *_pixels(s)))


def _pixels(stream: VideoStream) -> tuple[int, int]:
    """Return the number of pixels, then what prefers the first of equal streams."""
    context = stream.codec_context
    return context.width * context.height, -stream.index


def counted_frames(stream: VideoStream) -> int:
    """Return how many frames a Matroska stream has by its statistics; 0 if there are none.

    Statistics that other programs copied from another file say when they were written.
    """
    tags = stream.metadata
    dates = [value for key, value in tags.items() if _STATISTICS_DATE_TAG.fullmatch(key)]
    created = stream.container.metadata.get("creation_time", "")
    if any(_DIGITS.findall(date)[:6] != _DIGITS.findall(created)[:6] for date in dates):
        return 0
    counts = (value for key, value in tags.items() if _FRAME_COUNT_TAG.fullmatch(key))
    return next((int(value) for value in counts if value.isdecimal() and len(value) < 12), 0)


def _count_packets(
    streams: Sequence[VideoStream], reopen: Callable[[], AbstractContextManager[InputContainer]]
) -> Counter[int]:
    """Count the packets of each stream at the beginning of the file, by stream index."""
    indices = [s.index for s in streams]
    counts: Counter[int] = Counter()
    size = 0
    # a damaged beginning tells less, and does not matter here: extract reports it
    with suppress(av.FFmpegError, IndexError), reopen() as container:
        for packet in container.demux([s for s in container.streams.video if s.index in indices]):
            counts[packet.stream_index] += bool(packet.size)
            size += packet.size
            if counts.total() >= _COUNTED_PACKETS or size >= _COUNTED_BYTES:
                break
    return counts
