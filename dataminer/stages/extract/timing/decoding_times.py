"""When frames are shown if a file only states when they are decoded."""

from __future__ import annotations

import heapq

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# formats that have one time for each packet, which libav takes for that of decoding, and the codecs
# whose presentation times it only guesses there
_CODECS = {
    "avi": {"h264", "hevc"},
    "asf": {"h264", "hevc", "mpeg1video", "mpeg2video"},
}


class DecodingTimes:
    """Gives frames, in the order in which they are shown, their packets' times in turn.

    AVI states no presentation times. What is decoded first is shown first, except for reordering,
    so that the n-th frame is due when the n-th packet is. So it is in ASF, also if its times are
    those of presentation, and therefore not in order.

    Parameters
    ----------
    are_stated : bool
        Whether the file states times, and not only the order.
    """

    def __init__(self, are_stated: bool) -> None:
        self.are_stated = are_stated
        self._times: list[int] = []
        self._own: dict[int, int] = {}

    def add(self, packet: Packet[VideoStream]) -> None:
        """Take note of the next packet that is decoded."""
        if packet.dts is not None:
            heapq.heappush(self._times, packet.dts)
            if packet.pts is not None:
                self._own[packet.pts] = packet.dts

    def next(self, frame: VideoFrame) -> int | None:
        """Return when the next frame is shown; None if its packet states no time."""
        own = self._own.pop(frame.pts, None) if frame.pts is not None else None
        if frame.key_frame and own is not None:
            # what is left from before belongs to packets that gave no frame
            while self._times and self._times[0] < own:
                heapq.heappop(self._times)
        return heapq.heappop(self._times) if self._times else None


def decoding_times(stream: VideoStream) -> DecodingTimes | None:
    """Return the times of a stream that states no others; None if it does."""
    name = stream.container.format.name
    is_guessed = stream.codec.canonical_name in _CODECS.get(name, ())
    return DecodingTimes(are_stated=name == "asf") if is_guessed else None
