"""Cells of time: stamps that jump, stray, stand still or are missing, and joined recordings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.support.matrix.cell import Cell
from tests.support.matrix.encoding import RATE, X265_PARAMS, Clip, encode
from tests.support.matrix.packets import (
    Restamp,
    joined,
    restamp_flash,
    restamp_matroska,
    restamp_program_stream,
    restamp_transport_stream,
    set_sample_durations,
)

_FRAMES = 150
_EACH_SECOND = {"every_seconds": 1.0}
_NUMBERS = tuple(range(0, _FRAMES, RATE))
_JOINED, _STRAY = frozenset({"joined_parts"}), frozenset({"stray_stamps"})
_DERIVED = frozenset({"derived_stamps"})
_FAR = 45_000.0  # seconds
_PART = 48  # frames of a joined recording
_RESTAMPED: dict[str, Callable[[Path, Restamp], Path]] = {
    "ts": restamp_transport_stream,
    "mpg": restamp_program_stream,
    "vob": restamp_program_stream,
    "flv": restamp_flash,
    "mkv": restamp_matroska,
}


def cells() -> Iterator[Cell]:
    """Yield the cells of time."""
    yield from _jumps()
    yield from _strays()
    yield from _derived()
    yield from _concatenated()


def _clip(container: str, codec: str = "") -> Clip:
    usual = {"mpg": "mpeg2video", "vob": "mpeg2video"}
    muxer = (("cluster_time_limit", "1"), ("write_crc32", "0")) if container == "mkv" else ()
    return Clip(codec or usual.get(container, "libx264"), frames=_FRAMES, muxer=muxer)


def _restamped(
    container: str, trouble: str, change: Restamp, clip: Clip | None = None, **right: Any
) -> Cell:
    clip = clip or _clip(container)
    return Cell(
        *("time", container, clip.codec, trouble),
        functools.partial(_make, clip=clip, change=change),
        **{"numbers": _NUMBERS, "settings": _EACH_SECOND, "size": clip.size, **right},
    )


def _make(path: Path, clip: Clip, change: Restamp) -> Path:
    return _RESTAMPED[path.suffix[1:]](encode(path, clip), change)


def _resets(index: int, time: float) -> float:
    """Begin again every 50 frames."""
    return time - index // 50 * 2.0


def _resets_late(index: int, time: float) -> float:
    """Begin again every 50 frames, where times need two bytes in Matroska."""
    return time - (index - 25) // 50 * 2.0 if index >= 75 else time


def _jumps_ahead(index: int, time: float) -> float:
    return time + index // 50 * _FAR


def _there_and_back(index: int, time: float) -> float:
    return time + (_FAR if 50 <= index < 100 else 0.0)


def _after_the_first(index: int, time: float) -> float:
    return time + (60_000.0 if index else 0.0)


def _wrapping(index: int, time: float) -> float:
    """Pass the largest number of 33 bits after 2 s: no trouble, but what the standard says."""
    return time - 4.0 + 2**33 / 90_000


def _strays_at(
    every: int, first: int, far: float, last: int = _FRAMES
) -> Callable[[int, float], float]:
    def change(index: int, time: float) -> float:
        is_stray = first <= index <= last and (index - first) % every == 0
        return time + (far if is_stray else 0.0)

    return change


def _constant(index: int, time: float) -> float:
    return 10.0


def _every_tenth_missing(index: int, time: float) -> float | None:
    return None if index % 10 == 5 else time


def _jumps() -> Iterator[Cell]:
    for container in ("ts", "flv"):
        yield _restamped(container, "begins again every 50 frames", _resets, warns=_JOINED)
    for container in ("mpg", "vob"):
        yield _restamped(
            *(container, "begins again every 50 frames", _resets),
            about=True,
            warns=_JOINED,
            may_warn=_DERIVED,
        )
    ntsc = replace(_clip("ts"), rate=Fraction(30000, 1001))
    yield _restamped(
        *("ts", "begins again every 50 frames, 29.97 per second", _resets, ntsc),
        numbers=(0, 30, 50, 80, 100, 130),
        about=True,
        warns=_JOINED,
        may_warn=_DERIVED,
    )
    reordered = replace(_clip("ts"), b_frames=2)
    yield _restamped(
        *("ts", "B-frames, begins again every 50 frames", _resets, reordered),
        about=True,
        warns=_JOINED,
        may_warn=_DERIVED | _STRAY,
    )
    mpeg2 = _clip("ts", "mpeg2video")
    yield _restamped("ts", "begins again every 50 frames", _resets, mpeg2, warns=_JOINED)
    late: dict[str, Any] = {"may_warn": _DERIVED | _STRAY, "about": True}
    yield _restamped("mkv", "begins again at frame 75 and 125", _resets_late, warns=_JOINED, **late)
    for container in ("ts", "mpg"):
        yield _restamped(
            *(container, "jumps 45,000 s ahead twice", _jumps_ahead),
            about=container == "mpg",
            warns=_JOINED,
            may_warn=_DERIVED,
        )
        yield _restamped(
            *(container, "50 of 150 frames 45,000 s ahead", _there_and_back),
            about=container == "mpg",
            some_of=_JOINED | _STRAY,
            may_warn=_DERIVED,
        )
    for container in ("ts", "flv"):
        yield _restamped(
            *(container, "all but the first 60,000 s later", _after_the_first),
            about=True,
            some_of=_JOINED | _STRAY,
            may_warn=_DERIVED,
        )
    yield _restamped("ts", "stamps pass 2^33", _wrapping)
    for container in ("mp4", "mkv"):
        stamps = (0, *range(1_500_000, 1_500_000 + _FRAMES - 1))
        clip = Clip(frames=_FRAMES, stamps=stamps)
        yield Cell(
            *("time", container, "libx264", "all but the first 60,000 s later"),
            functools.partial(encode, clip=clip),
            numbers=_NUMBERS,
            about=True,
            some_of=_JOINED | _STRAY,
            may_warn=_DERIVED,
            settings=_EACH_SECOND,
        )
    clip = Clip(frames=_FRAMES, stamps=tuple(range(50_000_000, 50_000_000 + _FRAMES)))
    yield Cell(
        *("time", "mkv", "libx264", "begins at 2,000,000 s"),
        functools.partial(encode, clip=clip),
        numbers=_NUMBERS,
        settings=_EACH_SECOND,
    )


def _strays() -> Iterator[Cell]:
    for container in ("ts", "mpg", "flv"):
        yield _restamped(
            *(container, "every 25th frame 45,000 s later", _strays_at(25, 12, _FAR)),
            about=container == "mpg",
            warns=_STRAY,
            may_warn=_DERIVED,
        )
    yield _restamped(
        *("ts", "every 25th frame from the first on 45,000 s later", _strays_at(25, 0, _FAR)),
        about=True,
        some_of=_STRAY | _JOINED,
        may_warn=_DERIVED,
    )
    yield _restamped(
        *("ts", "every 25th frame 30 s earlier", _strays_at(25, 12, -30.0)),
        warns=_STRAY,
        may_warn=_DERIVED,
    )
    for container in ("ts", "flv"):
        yield _restamped(
            *(container, "the last frame 45,000 s later", _strays_at(1, 149, _FAR)),
            some_of=_STRAY | _JOINED,
            may_warn=_DERIVED,
        )
        yield _restamped(
            *(container, "the first frame 45,000 s later", _strays_at(1, 0, _FAR, 0)),
            about=True,
            some_of=_STRAY | _JOINED,
            may_warn=_DERIVED,
        )
    yield _restamped(
        *("mkv", "every 25th frame 40 s later", _strays_at(25, 37, 40.0)),
        warns=_STRAY,
        may_warn=_DERIVED,
    )
    reordered = replace(_clip("ts"), b_frames=2)
    yield _restamped(
        *("ts", "B-frames, every 25th 45,000 s later", _strays_at(25, 12, _FAR), reordered),
        about=True,
        warns=_STRAY,
        may_warn=_DERIVED | _JOINED,
    )


def _derived() -> Iterator[Cell]:
    for container in ("ts", "mpg", "flv"):
        yield _restamped(
            *(container, "all stamps equal", _constant),
            about=container == "mpg",
            warns=_DERIVED,
            may_warn=_STRAY | _JOINED,
        )
    for container in ("ts", "vob"):
        yield _restamped(
            *(container, "every tenth stamp missing", _every_tenth_missing), may_warn=_DERIVED
        )
    yield Cell(
        *("time", "mp4", "libx264", "all stamps equal"),
        functools.partial(_make_constant, clip=Clip(frames=_FRAMES)),
        numbers=_NUMBERS,
        warns=_DERIVED,
        may_warn=frozenset({"truncated"}),
        settings=_EACH_SECOND,
    )


def _make_constant(path: Path, clip: Clip) -> Path:
    return set_sample_durations(encode(path, clip), 0)


def _concatenated() -> Iterator[Cell]:
    for container, codec in (
        ("ts", "libx264"),
        ("ts", "mpeg2video"),
        ("ts", "libx265"),
        ("mpg", "mpeg2video"),
        ("m2ts", "libx264"),
    ):
        yield _cat(container, codec, 4, (0, 25), "joined by cat", _EACH_SECOND)
    only_first = {"every_seconds": 60.0}
    yield _cat("ts", "libx264", 3, (0,), "joined by cat, a frame each minute", only_first)
    first, second = Clip(frames=_PART), Clip(frames=_PART, size=(176, 144), first=1000)
    yield Cell(
        *("time", "ts", "libx264", "two parts of different sizes, joined by cat"),
        functools.partial(_make_cat, clips=(first, second)),
        numbers=(0, 25, 1000, 1025),
        seconds=(0, 1, 1.92, 2.92),
        size=None,
        warns=_JOINED,
        settings=_EACH_SECOND,
    )


def _cat(
    container: str,
    codec: str,
    parts: int,
    wanted: tuple[int, ...],
    trouble: str,
    settings: dict[str, float],
) -> Cell:
    options = (("x265-params", f"{X265_PARAMS}:bframes=0"),) if codec == "libx265" else ()
    clips = tuple(
        Clip(codec, frames=_PART, first=part * 1000, options=options) for part in range(parts)
    )
    lasts = _PART / RATE
    return Cell(
        *("time", container, codec, f"{parts} parts, {trouble}"),
        functools.partial(_make_cat, clips=clips),
        numbers=tuple(1000 * part + number for part in range(parts) for number in wanted),
        seconds=tuple(lasts * part + number / RATE for part in range(parts) for number in wanted),
        warns=_JOINED,
        settings=settings,
    )


def _make_cat(path: Path, clips: tuple[Clip, ...]) -> Path:
    parts = [
        encode(path.with_name(f"part{index}{path.suffix}"), clip)
        for index, clip in enumerate(clips)
    ]
    return joined(path, *parts)
