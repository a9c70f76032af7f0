"""The alpha channel of VP8 and VP9 in Matroska and WebM, which libav's decoders leave out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from dataminer.video.alpha import AlphaDecoder, has_alpha_stream
from dataminer.video.decoder import read_plane
from dataminer.video.opening import open_video
from tests.support.matrix.colour import Colour
from tests.support.matrix.encoding import Clip, encode_with_ffmpeg
from tests.support.patches import Extracted, encode, patch_error, patches_picture

CODECS = ["libvpx", "libvpx-vp9"]
EVERY_FRAME: dict[str, Any] = {"strategy": "interval", "every_frames": 1}
_ALPHA_SIDE_DATA = 15  # libav's number of what "matroska_block_additional" is
new_side_data: Any = av.packet.PacketSideData


def opacity(number: int = 0) -> NDArray[np.uint8]:
    """Draw opacity: the upper half is clear, a part of the lower one half so; it moves."""
    values = np.full((120, 160), 255, np.uint8)
    values[:60] = 0
    values[60:, : 60 + number] = 128
    return values


def clip(path: Path, codec: str, length: int = 6, **settings: Any) -> Path:
    options = {"auto-alt-ref": "0", "crf": "4", "b": "4M", **settings}
    frames = [
        av.VideoFrame.from_ndarray(
            np.dstack([patches_picture(), opacity(number)]), format="rgba"
        ).reformat(format="yuva420p")
        for number in range(length)
    ]
    return encode(path, frames, codec, "yuva420p", options=options)


def remuxed(source: Path, path: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """Copy a file; what a function makes of their alpha takes the place of packets' own."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        copy.metadata["alpha_mode"] = "1"
        for index, packet in enumerate(container.demux(stream)):
            if not packet.size:
                continue
            new = av.Packet(bytes(packet))
            new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
            new.is_keyframe, new.stream = packet.is_keyframe, copy
            side = packet.get_sidedata("matroska_block_additional")
            alpha = change(index, bytes(side)[8:])
            if alpha:
                changed = new_side_data(_ALPHA_SIDE_DATA, 8 + len(alpha))
                changed.update((1).to_bytes(8) + alpha)
                new.set_sidedata(changed)
            output.mux(new)
    return path


def decoded(path: Path) -> list[av.VideoFrame]:
    with open_video(path) as (container, stream):
        decoder = AlphaDecoder(stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [frame for packet in packets for frame in decoder.decode(packet)]


@pytest.mark.parametrize("container", ["webm", "mkv"])
@pytest.mark.parametrize("codec", CODECS)
def test_black_shows_through(tmp_path: Path, codec: str, container: str) -> None:
    got = Extracted(clip(tmp_path / f"a.{container}", codec), tmp_path / "out", **EVERY_FRAME)
    assert len(got.rows) == 6
    for number, image in enumerate(got.images):
        assert image[:56].max() <= 3
        true = patches_picture()[:, :, ::-1].astype(float)
        half = slice(10, 30)
        assert np.abs(image[90, half] - true[90, half] * 128 / 255).max() <= 5
        assert np.abs(image[90, 130:150] - true[90, 130:150]).max() <= 5
        edge = image[90, 60 + number - 3 : 60 + number + 3].max(axis=1)
        assert edge[0] < edge[-1]
    assert got.notes == {"flattened": 6}
    assert got.warning is None
    assert got.row["bit_depth"] == 8
    assert got.meta["decoding"] == "everything, because opacity is stored beside its frames"


@pytest.mark.parametrize("codec", CODECS)
def test_frames_are_those_of_both_streams(tmp_path: Path, codec: str) -> None:
    """The colours as libav's own decoder gives them, the opacity as libvpx does."""
    video = clip(tmp_path / "a.webm", codec)
    frames = decoded(video)
    with av.open(str(video)) as container:
        plain = list(container.decode(video=0))
    libvpx: Any = av.CodecContext.create(codec, "r")
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        both: list[Any] = [frame for packet in packets for frame in libvpx.decode(packet)]
    assert len(frames) == len(plain) == len(both) == 6
    for frame, colours, whole in zip(frames, plain, both, strict=True):
        assert frame.format.name == whole.format.name == "yuva420p"
        assert frame.pts == colours.pts
        assert frame.color_range == colours.color_range
        assert frame.colorspace == colours.colorspace
        for index in range(3):
            assert np.array_equal(read_plane(frame, index), read_plane(colours, index))
        assert np.array_equal(read_plane(frame, 3), read_plane(whole, 3))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bare", [{0, 1, 2, 3}, {2, 4}, {5}])
def test_frames_without_alpha_are_opaque(tmp_path: Path, codec: str, bare: Collection[int]) -> None:
    """As recorders in browsers write them: alpha comes only with frames that are transparent."""
    source = clip(tmp_path / "a.webm", codec, g="1")
    video = remuxed(source, tmp_path / "b.webm", lambda i, alpha: b"" if i in bare else alpha)
    got = Extracted(video, tmp_path / "out", **EVERY_FRAME)
    assert len(got.rows) == 6
    for number, image in enumerate(got.images):
        assert (image[:56].max() <= 3) == (number not in bare)
        assert patch_error(image) <= 6 or number not in bare
    assert got.notes == {"flattened": 6 - len(bare)}


def test_opacity_that_cannot_be_decoded_is_a_packet_that_could_not_be(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.webm", "libvpx-vp9")

    def broken(index: int, alpha: bytes) -> bytes:
        return b"\xff" * len(alpha) if index == 2 else alpha

    video = remuxed(source, tmp_path / "b.webm", broken)
    got = Extracted(video, tmp_path / "out", max_error_share=0.5, **EVERY_FRAME)
    assert got.notes["refused_packets"] == 1
    assert len(got.rows) == 5


def test_opacity_of_another_size_is_scaled(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.webm", "libvpx-vp9")
    small = [frame.reformat(80, 60, "yuv420p") for frame in map(grey_frame, range(6))]
    other = encode(tmp_path / "small.webm", small, "libvpx-vp9", options={"crf": "4", "b": "4M"})
    with av.open(str(other)) as container:
        alphas = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    video = remuxed(source, tmp_path / "b.webm", lambda index, _: alphas[index])
    got = Extracted(video, tmp_path / "out", **EVERY_FRAME)
    for image in got.images:
        assert image[:50].max() <= 3
        assert image[70:, 140:].max() > 200


def grey_frame(number: int) -> av.VideoFrame:
    frame = av.VideoFrame(160, 120, "yuv420p")
    for index, values in enumerate((opacity(number), *2 * [np.full((60, 80), 128, np.uint8)])):
        read_plane(frame, index)[:] = values
    return frame


@pytest.mark.parametrize(
    ("pixel_format", "expected"),
    [
        *(("yuv422p", "yuva422p"), ("yuv440p", "yuva444p"), ("yuv420p10le", "yuva420p10le")),
        *(("yuv420p12le", "yuva444p12le"), ("gbrp", "gbrap")),
    ],
)
def test_alpha_of_other_formats(tmp_path: Path, pixel_format: str, expected: str) -> None:
    """Encoders of alpha have 4:2:0 of 8 bits only; the format has all of VP9."""
    colour = Colour(full=pixel_format == "gbrp")
    colours = Clip(pixel_format=pixel_format, colour=colour, frames=3, draw=drawn_patches)
    arguments = ("-c:v", "libvpx-vp9", "-lossless", "1")
    source = encode_with_ffmpeg(tmp_path / "a.webm", colours, *arguments)
    alphas = encode(tmp_path / "alpha.webm", [grey_frame(i) for i in range(3)], "libvpx-vp9")
    with av.open(str(alphas)) as container:
        data = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    video = remuxed(source, tmp_path / "b.webm", lambda index, _: data[index])
    assert {frame.format.name for frame in decoded(video)} == {expected}
    got = Extracted(video, tmp_path / "out")
    assert got.image[:50].max() <= 3
    assert np.abs(got.image[90, 130:150].astype(int) - 235).max() <= 3


def drawn_patches(_number: int, width: int, height: int) -> NDArray[np.uint8]:
    return patches_picture(width, height)


def test_ordinary_videos_have_none(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(patches_picture(), format="rgb24")
    for codec, suffix in (("libvpx-vp9", "webm"), ("libx264", "mkv")):
        video = encode(tmp_path / f"a.{suffix}", [frame.reformat(format="yuv420p")], codec)
        with av.open(str(video)) as container:
            assert not has_alpha_stream(container.streams.video[0])
        assert Extracted(video, tmp_path / suffix).meta["decoding"] == "planned"
