"""Deinterlacing of single frames that show combs."""

from __future__ import annotations

from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from dataminer.stages.extract.picture.combs import shows_combs
from dataminer.stages.extract.picture.matrices import luma_options
from dataminer.video.decoder import convert_frame

_TIME_BASE = Fraction(1, 1000)  # of a graph that sees one frame


class Deinterlacer:
    """Finds combed frames and deinterlaces them; used by one thread at a time."""

    def __init__(self) -> None:
        self._luma = VideoReformatter()

    def is_combed(self, frame: VideoFrame) -> bool:
        """Return whether the two fields of a frame show different moments."""
        options = luma_options(frame)
        return shows_combs(convert_frame(self._luma, frame, format="gray", **options))

    def deinterlaced(self, frame: VideoFrame) -> VideoFrame:
        """Return the first field of a frame, its missing lines interpolated along edges.

        By libavfilter's ``estdif``, which looks at no other frame: planned decoding has no
        neighbours. It works on the planes as they are stored, so that chroma of interlaced 4:2:0
        is interpolated within its own field.
        """
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=_TIME_BASE
        )
        interpolation = graph.add("estdif", "mode=frame:parity=auto")
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
