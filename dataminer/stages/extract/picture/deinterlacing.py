"""Deinterlacing of single frames that show combs."""

from __future__ import annotations

from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from dataminer.stages.extract.picture.combs import shows_combs
from dataminer.stages.extract.picture.matrices import luma_options
from dataminer.stages.extract.quality.arrays import GreyImage
from dataminer.video.decoder import convert_frame

_TIME_BASE = Fraction(1, 1000)  # of a graph that sees one frame
# of AVFieldOrder, by which field is displayed first; 0 and 1 are unknown and progressive
_PARITY_BY_ORDER = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
# their frames say it themselves, as far as they are interlaced
_CODECS_WITH_FLAGS = {
    *("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "wmv3", "cavs"),
    *("prores", "dnxhd", "dvvideo"),
}

Neighbours = tuple[VideoFrame | None, VideoFrame | None]
"""The frames shown directly before and after one; None if there is none to compare with."""


def declared_parity(stream: VideoStream) -> str | None:
    """Return the order of fields, ``tff`` or ``bff``, if only the file says it.

    Codecs such as MJPEG, PNG and HuffYUV leave it to QuickTime and Matroska. None if frames are
    progressive, or say it themselves. Called before the first frame is decoded.
    """
    if stream.codec_context.name in _CODECS_WITH_FLAGS:
        return None
    return _PARITY_BY_ORDER.get(stream.codec_context.field_order)


class Deinterlacer:
    """Finds combed frames and deinterlaces them; used by one thread at a time."""

    def __init__(self) -> None:
        self._luma = VideoReformatter()

    def is_combed(self, frame: VideoFrame, neighbours: Neighbours) -> bool:
        """Return whether the two fields of a frame show different moments."""
        before, after = (self._grey(other) if other else None for other in neighbours)
        return shows_combs(self._grey(frame), before, after)

    def _grey(self, frame: VideoFrame) -> GreyImage:
        return convert_frame(self._luma, frame, format="gray", **luma_options(frame))

    def deinterlaced(self, frame: VideoFrame, parity: str) -> VideoFrame:
        """Return the first field of a frame, its missing lines interpolated along edges.

        By libavfilter's ``estdif``, which needs no other frame. It works on the planes as they are
        stored, so that chroma of interlaced 4:2:0 is interpolated within its own field.

        Parameters
        ----------
        frame : VideoFrame
            An interlaced frame.
        parity : str
            ``tff`` if its top field is the first, ``bff`` if the bottom field is, and ``auto`` if
            the frame says it.
        """
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=_TIME_BASE
        )
        interpolation = graph.add("estdif", f"mode=frame:parity={parity}")
        sink = graph.add("buffersink")
        source.link_to(interpolation)
        interpolation.link_to(sink)
        graph.configure()
        source.push(frame)
        source.push(None)
        result = sink.pull()
        assert isinstance(result, VideoFrame)
        for tag in ("colorspace", "color_range", "color_trc", "color_primaries"):
            setattr(result, tag, getattr(frame, tag))
        return result
