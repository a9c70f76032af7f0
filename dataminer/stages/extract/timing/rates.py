"""How many frames per second a stream declares."""

from __future__ import annotations

from fractions import Fraction

from av.video.stream import VideoStream

_CODEC_RATES = Fraction(1), Fraction(240)  # others are clock rates of variable-rate encoders


def declared_rate(stream: VideoStream) -> Fraction | None:
    """Return the frames per second that a stream's codec declares, or else libav's guess.

    libav takes its guess from the first time stamps, if the container declares no rate; they may
    be wrong.
    """
    rate = stream.codec_context.framerate
    if rate and _CODEC_RATES[0] <= rate <= _CODEC_RATES[1]:
        return Fraction(rate)
    return stream.guessed_rate
