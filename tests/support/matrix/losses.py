"""Cells of loss: packets that are not there, or that cannot be decoded."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from tests.support.matrix.cell import Cell, Result
from tests.support.matrix.encoding import RATE, X265_PARAMS, Clip, encode
from tests.support.matrix.packets import keyframes, without_packets
from tests.support.matrix.pictures import Image

_GOP = 20
_LOST = frozenset({"missing_frames", "lost_packets", "refused_packets"})
_ALL = {"strategy": "interval", "every_frames": 1}
_CODECS = {
    "libx264": Clip(),
    "libx265": Clip(
        "libx265",
        options=(("x265-params", f"{X265_PARAMS}:bframes=0:keyint=20:min-keyint=20"),),
    ),
    "libvpx": Clip("libvpx"),
    "libvpx-vp9": Clip("libvpx-vp9"),
    "libsvtav1": Clip("libsvtav1"),
    "mpeg2video": Clip("mpeg2video"),
    "mpeg4": Clip("mpeg4"),
    "h263": Clip("h263", size=(176, 144)),
    "wmv2": Clip("wmv2"),
    "mjpeg": Clip("mjpeg", "yuvj420p"),
    "ffv1": Clip("ffv1"),
    "prores_ks": Clip("prores_ks", "yuv422p10le"),
}
_INTRA = {"mjpeg", "prores_ks"}
_CONTAINERS = (
    ("mkv", "libx264"),
    ("mp4", "libx264"),
    ("ts", "libx264"),
    ("flv", "libx264"),
    ("mkv", "libx265"),
    ("ts", "libx265"),
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("mkv", "libsvtav1"),
    ("ts", "mpeg2video"),
    ("mkv", "mpeg2video"),
    ("avi", "mpeg4"),
    ("mkv", "mpeg4"),
    ("mkv", "mjpeg"),
    ("mkv", "ffv1"),
    ("mkv", "prores_ks"),
)


def cells() -> Iterator[Cell]:
    """Yield the cells of loss."""
    for container, codec in _CONTAINERS:
        clip = replace(_CODECS[codec], gop=_GOP, frames=60)
        yield _lossy(container, "packets 24, 25 and 47 taken out", clip, (24, 25, 47))
    for container, codec in (
        ("mkv", "libx264"),
        ("mkv", "libx265"),
        ("webm", "libvpx-vp9"),
        ("ts", "mpeg2video"),
    ):
        clip = replace(_CODECS[codec], gop=_GOP, frames=60)
        yield _lossy(container, "second keyframe taken out", clip, None)
    for container, codec in (
        ("mkv", "libx264"),
        ("mp4", "libx264"),
        ("mkv", "libx265"),
        ("mkv", "mpeg2video"),
        ("mp4", "mpeg4"),
        ("mkv", "mjpeg"),
        ("avi", "mjpeg"),
        ("mkv", "ffv1"),
    ):
        clip = replace(_CODECS[codec], gop=_GOP, frames=60)
        yield _lossy(container, "packets 24 and 46 cut in half", clip, (), cut=(24, 46))
    clip = Clip(gop=_GOP, frames=60, b_frames=2)
    for taken_out in ((25,), (30, 31)):
        trouble = f"B-frames, {' and '.join(map(str, taken_out))} taken out"
        yield _lossy("mkv", trouble, clip, taken_out)


def _lossy(
    container: str,
    trouble: str,
    clip: Clip,
    taken_out: Collection[int] | None,
    cut: Collection[int] = (),
) -> Cell:
    return Cell(
        *("loss", container, clip.codec, trouble),
        functools.partial(_make, clip=clip, taken_out=taken_out, cut=cut),
        numbers=None,
        size=clip.size,
        error=None,
        some_of=_LOST | {"damaged_frames"} if cut else _LOST,
        may_warn=_LOST | {"damaged_frames"},
        settings=_ALL,
        check=functools.partial(_unmarked_frames_are_whole, lost=cut or taken_out),
    )


def _whole(path: Path) -> Path:
    return path.with_name(f"whole{path.suffix}")


def _make(path: Path, clip: Clip, taken_out: Collection[int] | None, cut: Collection[int]) -> Path:
    whole = encode(_whole(path), clip)
    second = [keyframes(whole)[1]] if taken_out is None else taken_out
    return without_packets(whole, path, second, cut)


def _clean_images(video: Path) -> list[Image]:
    with av.open(str(video)) as container:
        frames = container.decode(video=0)
        arrays = [frame.to_ndarray(format="bgr24")[..., ::-1] for frame in frames]
    return [array.astype(np.uint8, copy=False) for array in arrays]


def _unmarked_frames_are_whole(cell: Cell, result: Result, lost: Collection[int] | None) -> None:
    """See that what is not marked as damaged is as in the whole video, and that enough is not."""
    whole = _whole(result.video)
    clean, keys = _clean_images(whole), keyframes(whole)
    lost = sorted(lost or [keys[1]])
    wrong = []
    for row, image in zip(result.rows, result.images, strict=True):
        number = round((row["pts_time"] - result.seconds[0]) * RATE)
        if not row["damaged"] and not np.array_equal(image, clean[number]):
            wrong.append(number)
    assert not wrong, f"smeared or shown at a wrong time, and not marked: {wrong}"
    marked = {
        round((row["pts_time"] - result.seconds[0]) * RATE) for row in result.rows if row["damaged"]
    }
    if cell.codec in _INTRA and "cut" not in cell.trouble:
        assert not marked
    affected = {n for at in lost for n in range(at - 3, min([k for k in keys if k > at] or [60]))}
    assert marked <= affected, f"marked although sound: {sorted(marked - affected)}"
    assert len(result.rows) >= len(clean) - len(affected)
    assert result.meta["notes"].get("damaged_frames", 0) == len(marked)
