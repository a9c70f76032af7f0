"""Cells of colour: matrices, ranges, depths, subsampling, HDR and transparency."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.matrix.cell import HDR_ERROR, SDR_ERROR, Cell, Result
from tests.support.matrix.colour import Colour, hdr_signal
from tests.support.matrix.encoding import Clip, encode, encode_with_ffmpeg
from tests.support.matrix.packets import filtered
from tests.support.matrix.pictures import PATCHES, Image

# libav's numbers: H.273 for primaries, transfer and matrix
LIMITED, FULL = 1, 2
MATRICES = {
    "bt709": 1,
    "fcc": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "ycgco": 8,
    "bt2020nc": 9,
}
_RARE = {
    "bt2020c": 10,
    "smpte2085": 11,
    "chroma-derived-c": 13,
    "ictcp": 14,
}
_RGB = 0
_BT2020, _BT2020_10_BITS, _PQ, _HLG = 9, 14, 16, 18
_TRANSFERS = {"pq": (_PQ, "smpte2084"), "hlg": (_HLG, "arib-std-b67")}


def cells() -> Iterator[Cell]:
    """Yield the cells of colour."""
    yield from _matrices()
    yield from _ranges()
    yield from _formats()
    yield from _rare_tags()
    yield from _hdr()
    yield from _wide()
    yield from _transparent()


def _cell(container: str, trouble: str, clip: Clip, group: str = "colour", **right: Any) -> Cell:
    return Cell(
        group,
        container,
        clip.codec,
        trouble,
        functools.partial(encode, clip=clip),
        **{"numbers": tuple(range(0, clip.frames, 10)), "size": clip.size, **right},
    )


def _matrices() -> Iterator[Cell]:
    for matrix, number in MATRICES.items():
        tags = (LIMITED, None, None, number)
        clip = Clip(colour=Colour(matrix), tags=tags, frames=21)
        yield _cell("mp4", f"matrix {matrix}", clip, columns={"matrix": matrix})
    for container, codec, pixel_format in (
        ("mkv", "libx264", "yuv420p10le"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("ts", "mpeg2video", "yuv420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("mkv", "ffv1", "yuv420p"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("mp4", "libx265", "yuv420p10le"),
        ("mkv", "ffv1", "yuv444p16le"),
    ):
        clip = Clip(
            codec=codec,
            pixel_format=pixel_format,
            colour=Colour("bt709"),
            tags=(LIMITED, 1, 1, 1),
            frames=21,
        )
        trouble = f"BT.709 in {pixel_format}"
        columns = {"matrix": "bt709", "transfer": "bt709", "primaries": "bt709"}
        yield _cell(container, trouble, clip, columns=columns)


def _ranges() -> Iterator[Cell]:
    for container, codec, pixel_format, matrix in (
        ("mp4", "libx264", "yuv420p", "bt709"),
        ("mkv", "libx264", "yuv420p10le", "bt2020nc"),
        ("mp4", "libx264", "yuvj420p", "bt470bg"),
        ("webm", "libvpx-vp9", "yuv420p", "bt709"),
        ("mkv", "ffv1", "yuv444p12le", "bt709"),
        ("mp4", "libx265", "yuv420p", "bt470bg"),
        ("mkv", "libx264", "yuv444p", "smpte240m"),
        ("mkv", "libx264", "yuv444p", "ycgco"),
    ):
        clip = Clip(
            codec=codec,
            pixel_format=pixel_format,
            colour=Colour(matrix, full=True),
            tags=(FULL, None, None, MATRICES[matrix]),
            frames=21,
        )
        yield _cell(container, f"full range, {matrix} in {pixel_format}", clip)

    for container, codec, pixel_format in (
        ("mkv", "ffv1", "gbrp10le"),
        ("mkv", "ffv1", "gbrap12le"),
        ("mp4", "libx265", "gbrp"),
    ):
        clip = Clip(codec, pixel_format, tags=(LIMITED, None, None, _RGB), frames=21)
        yield _cell(container, f"limited range, {pixel_format}", clip)


def _formats() -> Iterator[Cell]:
    """Yield cells of formats of pixels; each is either tagged or of the usual matrix."""
    rgb = Colour(full=True)
    for container, codec, pixel_format, bits, colour in (
        ("mp4", "libx264", "yuv422p", 8, Colour()),
        ("mp4", "libx264", "yuv444p", 8, Colour()),
        ("mkv", "libx264", "yuv422p10le", 10, Colour()),
        ("mkv", "libx264", "yuv444p10le", 10, Colour()),
        ("mkv", "ffv1", "yuv410p", 8, Colour()),
        ("mkv", "ffv1", "yuv411p", 8, Colour()),
        ("mkv", "ffv1", "yuv440p", 8, Colour()),
        ("mkv", "ffv1", "yuv420p9le", 9, Colour()),
        ("mkv", "ffv1", "yuv422p12le", 12, Colour()),
        ("mkv", "ffv1", "yuv420p14le", 14, Colour()),
        ("mkv", "ffv1", "bgr0", 8, rgb),
        ("mkv", "ffv1", "gbrp10le", 10, rgb),
        ("mkv", "ffv1", "gbrp12le", 12, rgb),
        ("mkv", "ffv1", "gbrp16le", 16, rgb),
        ("mkv", "libx264rgb", "rgb24", 8, rgb),
        ("mp4", "libx265", "gbrp", 8, rgb),
        ("mov", "prores_ks", "yuv444p10le", 12, Colour()),
        ("mov", "png", "rgb48be", 16, rgb),
        ("mov", "r210", "gbrp10le", 10, rgb),
        ("avi", "rawvideo", "bgr24", 8, rgb),
        ("avi", "magicyuv", "gbrp", 8, rgb),
        ("avi", "cinepak", "rgb24", 8, rgb),
        ("nut", "rawvideo", "nv12", 8, Colour()),
        ("nut", "rawvideo", "yuyv422", 8, Colour()),
        ("mkv", "mjpeg", "yuvj444p", 8, rgb),
        ("mp4", "jpeg2000", "yuv444p", 8, Colour()),
    ):
        clip = Clip(codec=codec, pixel_format=pixel_format, colour=colour, frames=11)
        yield _cell(container, f"pixels as {pixel_format}", clip, columns={"bit_depth": bits})
    for container, codec, pixel_format, full in (
        ("mp4", "libx264", "gray", False),
        ("mkv", "ffv1", "gray", False),
        ("mkv", "ffv1", "gray", True),
        ("mkv", "ffv1", "gray10le", True),
        ("mkv", "ffv1", "gray16le", True),
        ("mov", "png", "gray", True),
    ):
        clip = Clip(
            codec=codec,
            pixel_format=pixel_format,
            colour=Colour(full=full),
            tags=(FULL if full else LIMITED, None, None, None),
            frames=11,
        )
        trouble = f"pixels as {pixel_format}, {'full' if full else 'limited'} range"
        yield _cell(container, trouble, clip, truth=_grey(PATCHES))


def _grey(colours: Image) -> Image:
    levels = np.rint(colours @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.dstack([levels] * 3)


def _rare_tags() -> Iterator[Cell]:
    """Yield cells of the usual matrix with the tag of one that no decoder applies."""
    for name, number in _RARE.items():
        for container, codec in (("mp4", "libx264"), ("mkv", "libx264")):
            if name != "bt2020c" and container == "mkv":
                continue
            clip = Clip(codec=codec, frames=21, tags=(LIMITED, None, None, number))
            trouble = f"matrix tagged {name}, pixels of BT.601"
            yield _cell(container, trouble, clip, warns=frozenset({"assumed_matrices"}))
    yield Cell(
        *("colour", "ts", "libx264", "matrix tagged by a reserved number, pixels of BT.601"),
        functools.partial(_make_reserved, clip=Clip(frames=21)),
        numbers=(0, 10, 20),
        # recent versions of libav do not tell it from a matrix that is not stated
        may_warn=frozenset({"assumed_matrices"}),
    )
    # the matrix follows from the primaries, which are those of BT.709
    clip = Clip(colour=Colour("bt709"), tags=(LIMITED, 1, 1, 12), frames=21)
    may = frozenset({"assumed_matrices"})
    yield _cell("mp4", "matrix tagged chroma-derived-nc, BT.709", clip, may_warn=may)


def _make_reserved(path: Path, clip: Clip) -> Path:
    source = encode(path.with_name("tagged.mp4"), clip)
    return filtered(source, path, "h264_metadata=matrix_coefficients=3")


def _hdr() -> Iterator[Cell]:
    for curve in ("hlg", "pq"):
        transfer, name = _TRANSFERS[curve]
        right: dict[str, Any] = {"error": HDR_ERROR, "converts": frozenset({"tone_mapped"})}
        columns = {"transfer": name, "primaries": "bt2020", "matrix": "bt2020nc"}
        for container, codec, pixel_format, full in (
            ("mp4", "libx265", "yuv420p10le", False),
            ("mkv", "libx264", "yuv420p10le", False),
            ("mp4", "libx264", "yuv422p10le", True),
            ("mp4", "libsvtav1", "yuv420p10le", False),
            ("mov", "prores_ks", "yuv422p10le", False),
            ("ts", "libx265", "yuv420p10le", False),
            ("mkv", "ffv1", "yuv444p12le", False),
            ("mkv", "ffv1", "yuv420p", False),
        ):
            clip = Clip(
                codec=codec,
                pixel_format=pixel_format,
                colour=Colour("bt2020nc", full, curve),
                tags=(FULL if full else LIMITED, _BT2020, transfer, MATRICES["bt2020nc"]),
                frames=21,
            )
            trouble = f"{curve.upper()} in {pixel_format}{', full range' * full}"
            yield _cell(container, trouble, clip, "HDR", columns=columns, **right)
        clip = Clip(
            codec="libvpx-vp9",
            pixel_format="yuv420p10le",
            colour=Colour("bt2020nc", hdr=curve),
            frames=21,
        )
        arguments = (
            *("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lossless", "1"),
            *("-color_range", "tv", "-color_primaries", "bt2020", "-color_trc", name),
            *("-colorspace", "bt2020nc"),
        )
        yield Cell(
            *("HDR", "webm", "libvpx-vp9 (ffmpeg)", f"{curve.upper()} in yuv420p10le"),
            functools.partial(_encode_with_ffmpeg, clip=clip, arguments=arguments),
            **{"numbers": (0, 10, 20), "columns": columns, **right},
        )
        clip = Clip(
            codec="libx264",
            pixel_format="yuv420p10le",
            colour=Colour("bt2020nc", hdr=curve),
            tags=(LIMITED, _BT2020, transfer, MATRICES["bt2020nc"]),
            frames=21,
        )
        stored = np.rint(hdr_signal(PATCHES, curve) * 255).astype(np.uint8)
        yield _cell(
            *("mp4", f"{curve.upper()}, kept as stored", clip, "HDR"),
            columns=columns,
            truth=stored,
            settings={"hdr": "keep"},
        )


def _wide() -> Iterator[Cell]:
    """Yield cells of SDR with the primaries of BT.2020, which players convert."""
    for container, codec, pixel_format in (
        ("mp4", "libx265", "yuv420p10le"),
        ("mkv", "libx264", "yuv420p10le"),
        ("webm", "libvpx-vp9", "yuv420p"),
    ):
        clip = Clip(
            codec=codec,
            pixel_format=pixel_format,
            colour=Colour("bt2020nc", hdr="bt2020"),
            tags=(LIMITED, _BT2020, _BT2020_10_BITS, MATRICES["bt2020nc"]),
            frames=21,
        )
        columns = {"transfer": "bt2020-10", "primaries": "bt2020", "matrix": "bt2020nc"}
        trouble = f"SDR of BT.2020 in {pixel_format}"
        yield _cell(container, trouble, clip, columns=columns, error=HDR_ERROR)


def _encode_with_ffmpeg(path: Path, clip: Clip, arguments: tuple[str, ...]) -> Path:
    return encode_with_ffmpeg(path, clip, *arguments)


def _transparent() -> Iterator[Cell]:
    for container, codec, pixel_format in (
        ("mov", "prores_ks", "yuva444p10le"),
        ("mov", "qtrle", "argb"),
        ("mov", "png", "rgba"),
        ("mkv", "ffv1", "yuva420p"),
        ("mkv", "ffv1", "bgra"),
        ("apng", "apng", "rgba"),
        ("webm", "libvpx", "yuva420p"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("mkv", "libvpx-vp9", "yuva420p"),
    ):
        for alpha in (None, half_transparent):
            clip = Clip(codec=codec, pixel_format=pixel_format, alpha=alpha, frames=21)
            if codec.startswith("libvpx"):
                clip = replace(clip, options=(("auto-alt-ref", "0"),))
            if alpha is None:
                yield _cell(container, f"opaque {pixel_format}", clip, "alpha")
                continue
            trouble = f"transparent in parts, {pixel_format}"
            converts = frozenset({"flattened"})
            yield _cell(container, trouble, clip, "alpha", converts=converts, check=_black_shows)


def half_transparent(number: int, width: int, height: int) -> Image:
    """Draw opacity: the right half of the noise is transparent, a quarter of it half so."""
    opacity = np.full((height, width), 255, np.uint8)
    noise = slice(round(height * 0.5), round(height * 0.8))
    opacity[noise, width // 2 :] = 0
    opacity[noise, : width // 4] = 128
    return opacity


def _black_shows(cell: Cell, result: Result) -> None:
    """See that black shows through what is transparent."""
    for image in result.images:
        height, width = image.shape[:2]
        noise = image[round(height * 0.55) : round(height * 0.75)].astype(float)
        assert noise[:, round(width * 0.55) :].max() <= 2 * SDR_ERROR
        opaque = noise[:, round(width * 0.3) : round(width * 0.45)].mean()
        dimmed = noise[:, round(width * 0.05) : round(width * 0.2)].mean()
        assert opaque > 60
        assert dimmed < 110  # of grey from 40 to 200, half is left
