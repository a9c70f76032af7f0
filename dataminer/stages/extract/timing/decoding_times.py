"""When frames are shown if a file only states when they are decoded."""

from __future__ import annotations

from collections import deque

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_CODECS = {"h264", "hevc"}  # whose presentation times libav only guesses in AVI


class DecodingTimes:
    """Gives the frames of an AVI, in the order in which they are shown, its packets' times in turn.

    AVI states no presentation times. What is decoded first is shown first, except for reordering,
    so that the n-th frame is due when the n-th packet is.
    """

    def __init__(self) -> None:
        self._times: deque[int] = deque()
        self._own: dict[int, int] = {}

    def add(self, packet: Packet[VideoStream]) -> None:
        """Take note of the next packet that is decoded."""
        if packet.dts is not None:
            self._times.append(packet.dts)
            if packet.pts is not None:
                self._own[packet.pts] = packet.dts

    def next(self, frame: VideoFrame) -> int | None:
        """Return when the next frame is shown; None if its packet states no time."""
        own = self._own.pop(frame.pts, None) if frame.pts is not None else None
        if frame.key_frame and own is not None:
            # what is left from before belongs to packets that gave no frame
            while self._times and self._times[0] < own:
                self._times.popleft()
        return self._times.popleft() if self._times else None


def decoding_times(stream: VideoStream) -> DecodingTimes | None:
    """Return the times of a stream that states no others; None if it does."""
    is_guessed = stream.container.format.name == "avi" and stream.codec.canonical_name in _CODECS
    return DecodingTimes() if is_guessed else None
