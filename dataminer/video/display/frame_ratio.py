"""The sample aspect ratio of a single frame, which PyAV does not pass on."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

_TIME_BASE = Fraction(1, 1000)  # of a graph that sees one frame
_BASE = 256
_DIGITS = 8  # of the ratio to this base, the first before the point: more than a double has
_MAX_DENOMINATOR = 1 << 20  # which so many digits distinguish; H.264 and H.265 have 16 bits
RATIO_ERROR = Fraction(1, 1 << 38)
"""By how much a ratio may be off if its denominator is larger."""
# swscale refuses colours that it does not know, and the ratio does not depend on them
_KNOWN_COLOURS = "colorspace=smpte170m:color_primaries=smpte170m:color_trc=smpte170m:range=tv"


def ratio_of_frame(frame: VideoFrame) -> Fraction:
    """Return a frame's sample aspect ratio; 1 if it has none.

    libavfilter's ``scale`` knows it, as a double: the frame is scaled to small sizes that depend on
    nothing else, each of which is a digit. Ratios beyond 255 count as less.

    Parameters
    ----------
    frame : VideoFrame
        One that libav can convert: others may abort the process.
    """
    digits = [digit for size in _small_sizes(frame) for digit in size]
    ratio = sum(Fraction(digit, _BASE**index) for index, digit in enumerate(digits))
    return Fraction(ratio).limit_denominator(_MAX_DENOMINATOR)


def _small_sizes(frame: VideoFrame) -> Iterator[tuple[int, int]]:
    """Yield digits of the ratio in pairs: those that width and height carry."""
    pairs = _DIGITS // 2
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=_TIME_BASE
    )
    colours, split = graph.add("setparams", _KNOWN_COLOURS), graph.add("split", str(pairs))
    source.link_to(colours)
    colours.link_to(split)
    sinks = []
    for pair in range(pairs):
        width, height = (f"1+mod(floor(sar*{_BASE}^{2 * pair + i}),{_BASE})" for i in range(2))
        scale = graph.add("scale", f"w='{width}':h='{height}':eval=frame:flags=neighbor")
        sinks.append(graph.add("buffersink"))
        split.link_to(scale, pair)
        scale.link_to(sinks[-1])
    graph.configure()
    source.push(frame)
    for sink in sinks:
        result = sink.pull()
        assert isinstance(result, VideoFrame)
        yield result.width - 1, result.height - 1
