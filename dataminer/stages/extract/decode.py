"""Decoding all of a video stream in presentation order, past what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dataminer.stages.extract.decode_stats import DecodedFrame, DecodeStats
from dataminer.stages.extract.loss.packet_log import PacketLog
from dataminer.stages.extract.selection.scan import DamagedError
from dataminer.stages.extract.timing.decoding_times import decoding_times
from dataminer.video.alpha import AlphaDecoder, decoder_of
from dataminer.video.avi_index import AviTimes
from dataminer.video.decoder import decodes_several
from dataminer.video.libav_messages import DecoderMessages

_CLOSED_BY_BOUNDARY = {"mpjpeg"}  # libav fails to read what should follow the last one
_MAX_FAILED_READS = 16  # in a row: a cut-off MP4 fails once for each lost frame


def decode(
    container: InputContainer,
    stream: VideoStream,
    stats: DecodeStats,
    check: Callable[[], None],
    log: PacketLog | None = None,
    *,
    messages: DecoderMessages | None = None,
) -> Iterator[DecodedFrame]:
    """Decode every frame, in presentation order, past packets that cannot be decoded.

    Parameters
    ----------
    container, stream
        From :func:`dataminer.video.opening.open_video`, at their beginning.
    stats : DecodeStats
        Updated on the way.
    check : callable
        Called with each packet; its exceptions end decoding.
    log, messages : optional
        A record of the packets, and what the decoder logs.

    Yields
    ------
    DecodedFrame

    Raises
    ------
    DamagedError
        If something is damaged while several packets are decoded at once.
    """
    log, times, decoder = log or PacketLog(stream), decoding_times(stream), decoder_of(stream)
    several = decodes_several(stream)
    for packet in _read_packets(container, stream, stats, log):
        if times and packet:
            times.add(packet)
        check()
        for frame in _decode_packet(decoder, packet, stats, log, messages, several=several):
            yield from stats.add(frame, times)
    yield from stats.finish()


def _decode_packet(
    decoder: VideoStream | AlphaDecoder,
    packet: Packet[VideoStream] | None,
    stats: DecodeStats,
    log: PacketLog,
    messages: DecoderMessages | None,
    *,
    several: bool,
) -> list[VideoFrame]:
    try:
        frames = decoder.decode(packet)
    except MemoryError:
        raise  # also libav's own: nothing is wrong with the packet
    except av.FFmpegError as error:
        stats.refuse(error)
        log.refuse()
        if messages:
            messages.tell_damage()  # what is refused is known already
        return []
    if messages and messages.tell_damage():
        if several:
            raise DamagedError("the decoder reports damage")
        log.conceal()
    return frames


def _read_packets(
    container: InputContainer, stream: VideoStream, stats: DecodeStats, log: PacketLog
) -> Iterator[Packet[VideoStream] | None]:
    """Read the stream's packets, then None, which flushes the decoder."""
    failed, avi_times = 0, AviTimes(container, stream)
    while failed < _MAX_FAILED_READS:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    failed = 0
                    avi_times.correct(packet)
                    stats.packets += 1
                    stats.position = packet.pos or stats.position
                    log.add(packet)
                    yield packet
            if failed == 1 and container.format.name in _CLOSED_BY_BOUNDARY:
                stats.read_errors -= 1  # it was the end
            break
        except IndexError:
            break  # PyAV 18 at the file's end, if a stream appeared on the way (MPEG-TS)
        except av.FFmpegError as error:
            failed += 1
            stats.read_errors += 1
            log.skip()
            stats.last_error = error.strerror or str(error)
    yield None
