"""The sample aspect ratio of a single frame, which PyAV does not pass on."""

from __future__ import annotations

from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

_STEPS = 10_000  # enough to distinguish ratios of numbers below 100
_MOST = 9  # a larger ratio counts as this; it is absurd either way
_MAX_DENOMINATOR = 99


def ratio_of_frame(frame: VideoFrame) -> Fraction:
    """Return a frame's sample aspect ratio; 1 if it has none.

    libavfilter's ``scale`` knows it: the frame is scaled to a width that depends on nothing else.
    """
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=Fraction(1, _STEPS),
    )
    width = f"w=max(1\\,round({_STEPS}*min({_MOST}\\,sar))):h=1:eval=frame:flags=neighbor"
    scale, sink = graph.add("scale", width), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(sink)
    graph.configure()
    source.push(frame)
    result = sink.pull()
    assert isinstance(result, VideoFrame)
    return Fraction(result.width, _STEPS).limit_denominator(_MAX_DENOMINATOR)
