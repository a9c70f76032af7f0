"""Decoding all of a video stream in presentation order, past what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from dataminer.stages.extract.decode_stats import DecodedFrame, DecodeStats

_MAX_FAILED_READS = 16  # in a row: a cut-off MP4 fails once for each lost frame


def decode(
    container: InputContainer, stream: VideoStream, stats: DecodeStats, check: Callable[[], None]
) -> Iterator[DecodedFrame]:
    """Decode every frame, in presentation order.

    A packet that cannot be decoded is counted and left out; the frames after it still come.

    Parameters
    ----------
    container, stream
        From :func:`dataminer.video.opening.open_video`, at their beginning.
    stats : DecodeStats
        Updated while frames are decoded.
    check : callable
        Called with each packet; an exception from it ends decoding.

    Yields
    ------
    DecodedFrame
        One at a time; earlier frames are not kept.
    """
    for packet in _read_packets(container, stream, stats):
        check()
        try:
            frames = stream.decode(packet)
        except MemoryError:
            raise  # also libav's own: nothing is wrong with the packet
        except av.FFmpegError as error:
            stats.decode_errors += 1
            stats.last_error = error.strerror or str(error)
            continue
        for frame in frames:
            yield stats.add(frame)


def _read_packets(
    container: InputContainer, stream: VideoStream, stats: DecodeStats
) -> Iterator[Packet[VideoStream] | None]:
    """Read the stream's packets, then None, which flushes the decoder."""
    failed = 0
    while failed < _MAX_FAILED_READS:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    failed = 0
                    stats.packets += 1
                    yield packet
            break
        except IndexError:
            break  # PyAV 18 at the file's end, if a stream appeared on the way (MPEG-TS)
        except av.FFmpegError as error:
            failed += 1
            stats.read_errors += 1
            stats.last_error = error.strerror or str(error)
    yield None
