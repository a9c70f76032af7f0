"""Colours of decoded frames: matrices, ranges, HDR, wide gamuts, transparency."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.stages.extract.picture.conversion import ConversionPlanner, FrameConverter
from dataminer.stages.extract.picture.rendering import RenderingPlanner
from dataminer.stages.extract.picture.tags import colour_tags
from dataminer.stages.extract.picture.tone_mapping import has_dolby_vision
from dataminer.stages.extract.picture.transfer import roll_off
from dataminer.stages.extract.scenes import CutDetector
from tests.support.drawn_colours import (
    BT709_TO_P3,
    BT2020,
    HLG,
    MATRICES,
    PQ,
    RGB,
    TRUE,
    hdr_signal,
    quantised,
    to_yuv,
    ycgco,
)
from tests.support.matrix.colour import TO_2020, hlg, pq
from tests.support.patches import frame_of_planes, patch_error, patches_picture


def tagged(frame: av.VideoFrame, **tags: int) -> av.VideoFrame:
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame


def yuv_frame(yuv: RGB, bits: int = 8, *, full: bool = False, **tags: Any) -> av.VideoFrame:
    pixel_format = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    frame = frame_of_planes(quantised(yuv, bits, full=full), pixel_format)
    return tagged(frame, color_range=2 if full else 1, **tags)


def converted(frame: av.VideoFrame, hdr: Any = "tone_map") -> tuple[NDArray[np.uint8], list[str]]:
    plan = ConversionPlanner(hdr).plan(frame, colour_tags(frame))
    image, is_transparent = FrameConverter().convert(frame, plan)
    return image, [*plan.notes, *(["flattened"] if is_transparent else [])]


@pytest.mark.parametrize("matrix", sorted(MATRICES))
@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_matrix_and_range_are_those_of_the_tags(matrix: int, bits: int, full: bool) -> None:
    frame = yuv_frame(to_yuv(TRUE, matrix), bits, full=full, colorspace=matrix)
    image, notes = converted(frame)
    assert patch_error(image) <= 3
    assert not notes


def constant_luminance(rgb: RGB) -> RGB:
    def scene(value: RGB) -> RGB:
        return np.where(value < 0.08145, value / 4.5, ((value + 0.0993) / 1.0993) ** (1 / 0.45))

    light = scene(rgb) @ np.array([0.2627, 0.6780, 0.0593])
    luma = np.where(light < 0.0181, 4.5 * light, 1.0993 * light**0.45 - 0.0993)
    blue, red = rgb[..., 2] - luma, rgb[..., 0] - luma
    blue_difference = np.where(blue <= 0, blue / 1.9404, blue / 1.5816)
    red_difference = np.where(red <= 0, red / 1.7184, red / 0.9936)
    return np.stack([luma, blue_difference, red_difference], axis=-1)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_ycgco_is_decoded_by_its_tag(bits: int, full: bool) -> None:
    image, notes = converted(yuv_frame(ycgco(TRUE), bits, full=full, colorspace=8))
    assert patch_error(image) <= 3
    assert not notes


@pytest.mark.parametrize(("matrix", "extra"), [(16, 2), (17, 1)])
def test_ycgco_r_is_decoded_without_loss(matrix: int, extra: int) -> None:
    red, green, blue = np.moveaxis(patches_picture().astype(np.int32), -1, 0)
    red, green, blue = (plane << (2 - extra) for plane in (red, green, blue))
    orange = red - blue
    rest = blue + (orange >> 1)
    difference = green - rest
    planes = [rest + (difference >> 1), difference + 512, orange + 512]
    frame = frame_of_planes([plane.astype(np.uint16) for plane in planes], "yuv444p10le")
    image, notes = converted(tagged(frame, colorspace=matrix, color_range=2))
    assert patch_error(image) <= 1
    assert not notes


def test_constant_luminance_is_decoded_if_its_other_tags_agree() -> None:
    yuv = constant_luminance(TRUE)
    tags: dict[str, Any] = {"colorspace": 10, "color_trc": 14, "color_primaries": BT2020}
    image, notes = converted(yuv_frame(yuv, 10, **tags), hdr="keep")
    assert patch_error(image) <= 3
    assert not notes


def test_a_matrix_derived_from_primaries_is_that_of_the_primaries() -> None:
    frame = yuv_frame(to_yuv(TRUE, 1), colorspace=12, color_primaries=1)
    image, notes = converted(frame)
    assert patch_error(image) <= 3
    assert not notes


@pytest.mark.parametrize("matrix", [3, 10, 11, 12, 13, 14, 15, 18, 77])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_a_matrix_that_cannot_be_right_is_replaced_by_the_usual_one(
    matrix: int, full: bool
) -> None:
    frame = yuv_frame(to_yuv(TRUE, 6), full=full, colorspace=matrix)
    image, notes = converted(frame)
    assert patch_error(image) <= 3
    assert notes == ["assumed_matrices"]
    assert CutDetector(0.1).starts_shot(frame)


def test_the_usual_matrix_of_high_definition_is_bt709() -> None:
    picture = patches_picture(1280, 720) / 255
    image, _ = converted(yuv_frame(to_yuv(picture, 1), colorspace=3))
    assert patch_error(image) <= 3


@pytest.mark.parametrize("size", [(160, 120), (1920, 1080)])
def test_a_frame_without_tags_is_converted_as_libav_does(size: tuple[int, int]) -> None:
    frame = yuv_frame(to_yuv(patches_picture(*size) / 255, 6), colorspace=2)
    image, notes = converted(frame)
    plain = VideoReformatter().reformat(frame, format="bgr24", threads=1).to_ndarray()
    assert np.array_equal(image, plain)
    assert not notes


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_hdr_is_mapped_to_sdr(transfer: int, bits: int, full: bool) -> None:
    yuv = to_yuv(hdr_signal(transfer), BT2020)
    tags: dict[str, Any] = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": transfer}
    image, notes = converted(yuv_frame(yuv, bits, full=full, **tags))
    assert patch_error(image) <= (12 if bits == 8 else 6)
    assert notes == ["tone_mapped"]
    kept, notes = converted(yuv_frame(yuv, bits, full=full, **tags), hdr="keep")
    assert patch_error(kept) > 30
    assert not notes


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_hdr_in_rgb(transfer: int) -> None:
    signal = np.rint(hdr_signal(transfer) * 1023).astype(np.uint16)
    frame = frame_of_planes([signal[..., 1], signal[..., 2], signal[..., 0]], "gbrp10le")
    image, notes = converted(tagged(frame, colorspace=0, color_trc=transfer, color_primaries=9))
    assert patch_error(image) <= 6
    assert notes == ["tone_mapped"]


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_hdr_without_other_tags_is_taken_as_bt2020(transfer: int) -> None:
    yuv = to_yuv(hdr_signal(transfer), BT2020)
    image, notes = converted(yuv_frame(yuv, 10, color_trc=transfer))
    assert patch_error(image) <= 6
    assert notes == ["tone_mapped", "assumed_matrices"]


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_hdr_in_display_p3(transfer: int) -> None:
    yuv = to_yuv(hdr_signal(transfer, primaries=BT709_TO_P3), BT2020)
    tags: dict[str, Any] = {"colorspace": BT2020, "color_primaries": 12, "color_trc": transfer}
    image, _ = converted(yuv_frame(yuv, 10, **tags))
    assert patch_error(image) <= 6


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_ictcp(transfer: int) -> None:
    """BT.2100, tables 6 and 7."""
    to_lms = np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096
    light = TRUE**2.4 @ TO_2020.T * 203
    scene = (light / 1000) ** (1 / 1.2)
    lms = pq(light @ to_lms.T) if transfer == PQ else hlg(scene @ to_lms.T)
    chroma = {
        PQ: [[6610, -13613, 7003], [17933, -17390, -543]],
        HLG: [[3625, -7465, 3840], [9500, -9212, -288]],
    }
    matrix = np.array([[2048, 2048, 0], *chroma[transfer]]) / 4096
    tags: dict[str, Any] = {"colorspace": 14, "color_primaries": BT2020, "color_trc": transfer}
    image, notes = converted(yuv_frame(lms @ matrix.T, 10, **tags))
    assert patch_error(image) <= 6
    assert notes == ["tone_mapped"]


def test_highlights_are_compressed_in_order_and_keep_their_hue() -> None:
    light = np.array([203, 400, 1000, 4000, 10000]) * np.array([[1.0], [0.5], [0.25]])
    rgb = np.stack([light[0], light[1], light[2]], axis=-1)[np.newaxis].repeat(2, 0)
    yuv = to_yuv(pq(rgb @ TO_2020.T), BT2020)
    tags: dict[str, Any] = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": PQ}
    blue, green, red = np.moveaxis(converted(yuv_frame(yuv, 12, **tags))[0][0], -1, 0)
    assert 235 < red[0] < red[1] < red[2] == red[3] == red[4] == 255
    assert np.abs(green / red - 0.5 ** (1 / 2.4)).max() < 0.02
    assert np.abs(blue / red - 0.25 ** (1 / 2.4)).max() < 0.02


@pytest.mark.parametrize("matrix", [1, BT2020])
@pytest.mark.parametrize(
    ("primaries", "conversion"),
    [(9, TO_2020), (12, BT709_TO_P3)],
    ids=["bt2020", "display-p3"],
)
def test_wide_gamuts_become_bt709(primaries: int, conversion: RGB, matrix: int) -> None:
    wide = (TRUE**2.4 @ conversion.T) ** (1 / 2.4)
    frame = yuv_frame(to_yuv(wide, matrix), 10, color_primaries=primaries, colorspace=matrix)
    assert patch_error(converted(frame)[0]) <= 3
    assert patch_error(converted(frame, hdr="keep")[0]) > 10


@pytest.mark.parametrize("primaries", [1, 2, 5, 6, 7])
def test_ordinary_primaries_change_nothing(primaries: int) -> None:
    frame = yuv_frame(to_yuv(TRUE, 6), colorspace=6)
    plain, _ = converted(frame)
    image, _ = converted(tagged(frame, color_primaries=primaries))
    assert np.array_equal(image, plain)


@pytest.mark.parametrize(
    "pixel_format",
    [
        *("rgb24", "bgr24", "rgba", "bgra", "gbrp", "gbrp10le", "gbrap", "rgb48le", "bgr0"),
        *("yuv420p", "yuvj420p", "yuv422p", "yuv410p", "yuv411p", "nv12", "uyvy422", "yuyv422"),
        *("yuv420p10le", "p010le", "yuv422p12le", "yuv444p16le", "yuva420p", "yuva444p10le"),
        *("ayuv64le", "x2rgb10le", "rgba64le", "y210le"),
    ],
)
def test_pixel_formats(pixel_format: str) -> None:
    source = av.VideoFrame.from_ndarray(patches_picture(), format="rgb24")
    frame = source.reformat(format=pixel_format, threads=1)
    image, notes = converted(frame)
    assert patch_error(image) <= 4
    assert not notes


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray16le", "ya8", "monow"])
@pytest.mark.parametrize("matrix", [2, 14])
def test_grey_formats(pixel_format: str, matrix: int) -> None:
    values = np.full((64, 64, 3), 255, np.uint8)
    values[:, :32] = 0
    frame = av.VideoFrame.from_ndarray(values, format="rgb24").reformat(
        format=pixel_format, threads=1
    )
    image, notes = converted(tagged(frame, colorspace=matrix))
    assert np.abs(image[:, 8].astype(int)).max() <= 1
    assert np.abs(image[:, 56].astype(int) - 255).max() <= 1
    assert not notes


@pytest.mark.parametrize("bits", [8, 10])
def test_grey_of_limited_range(bits: int) -> None:
    luma = quantised(to_yuv(TRUE, 6), bits)[0]
    frame = frame_of_planes([luma], "gray" if bits == 8 else "gray10le")
    image, _ = converted(tagged(frame, color_range=1))
    expected = TRUE @ np.array([0.299, 0.587, 0.114]) * 255
    assert np.abs(image - expected[..., np.newaxis]).max() <= 1.5
    image, _ = converted(tagged(frame, color_range=1, color_trc=PQ))
    assert image.max() > 235


@pytest.mark.parametrize(
    "pixel_format",
    ["rgb24", "bgr0", "gbrp", "gbrap", "gbrp10le", "gbrp12be", "gbrp16le", "rgb48be", "x2rgb10le"],
)
@pytest.mark.parametrize("color_range", [0, 1, 2], ids=["unsaid", "limited", "full"])
def test_rgb_is_expanded_only_if_it_is_tagged_as_limited(
    pixel_format: str, color_range: int
) -> None:
    limited = np.rint(TRUE * 219 + 16).astype(np.uint8)
    stored = limited if color_range == 1 else patches_picture()
    frame = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(
        format=pixel_format, threads=1
    )
    image, notes = converted(tagged(frame, color_range=color_range))
    assert patch_error(image) <= 2
    assert not notes


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_hdr_in_rgb_of_limited_range(transfer: int) -> None:
    signal = np.rint((hdr_signal(transfer) * 219 + 16) * 4).astype(np.uint16)
    frame = frame_of_planes([signal[..., 1], signal[..., 2], signal[..., 0]], "gbrp10le")
    tags = {"colorspace": 0, "color_trc": transfer, "color_primaries": 9, "color_range": 1}
    image, notes = converted(tagged(frame, **tags))
    assert patch_error(image) <= 6
    assert notes == ["tone_mapped"]


def test_frames_of_equal_format_may_have_other_ranges() -> None:
    planner = ConversionPlanner("tone_map")
    frame = av.VideoFrame.from_ndarray(patches_picture(), format="rgb24")
    plans = [
        planner.plan(tagged(frame, color_range=color_range), colour_tags(frame))
        for color_range in (0, 1, 2)
    ]
    assert [plan.is_expanded for plan in plans] == [False, True, False]


@pytest.mark.parametrize("pixel_format", ["rgb555be", "rgb565be", "bgr555be", "bgr565be"])
def test_packed_colours_of_either_byte_order(pixel_format: str) -> None:
    source = av.VideoFrame.from_ndarray(patches_picture(), format="rgb24")
    little = source.reformat(format=pixel_format.replace("be", "le"), threads=1)
    swapped = av.VideoFrame(160, 120, pixel_format)
    swapped.planes[0].update(np.frombuffer(bytes(little.planes[0]), "<u2").byteswap().tobytes())
    image, notes = converted(swapped)
    assert patch_error(image) <= 8
    assert not notes


@pytest.mark.parametrize(
    "pixel_format", ["yuva420p", "yuva422p", "yuva444p", "yuva420p10le", "yuva444p12be", "gbrap"]
)
@pytest.mark.parametrize("width", [1, 2, 17, 18, 66, 162])
def test_opaque_frames_of_any_width_are_not_changed(pixel_format: str, width: int) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((18, width, 3), 200, np.uint8), format="rgb24")
    frame = frame.reformat(format=pixel_format, threads=1)
    largest = (1 << frame.format.components[3].bits) - 1
    kind = ">u2" if pixel_format.endswith("be") else "<u2" if largest > 255 else "u1"
    plane = frame.planes[3]
    plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, largest, kind).tobytes())
    image, notes = converted(frame)
    assert np.abs(image.astype(int) - 200).max() <= 2
    assert not notes


@pytest.mark.parametrize(("alpha", "counts"), [(255, False), (252, False), (251, True), (0, True)])
def test_what_encoders_lose_of_opacity_is_no_transparency(alpha: int, counts: bool) -> None:
    rgba = np.dstack([patches_picture(), np.full((120, 160), alpha, np.uint8)])
    image, notes = converted(av.VideoFrame.from_ndarray(rgba, format="rgba"))
    assert notes == ["flattened"] * counts
    assert (patch_error(image) == 0) != counts


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv440p12le", "p010le", "yuv410p"])
@pytest.mark.parametrize("width", [1, 3, 161])
def test_hdr_of_odd_widths_has_chroma_up_to_the_edge(pixel_format: str, width: int) -> None:
    flat = np.full((40, width, 3), (200, 60, 30), np.uint8)
    frame = av.VideoFrame.from_ndarray(flat, format="rgb24").reformat(
        format=pixel_format, threads=1
    )
    image, _ = converted(tagged(frame, color_trc=PQ, color_primaries=9, colorspace=9))
    assert np.abs(image.astype(int) - image[20, 0].astype(int)).max() <= 2


def test_transparent_pixels_show_black() -> None:
    rgba = np.dstack([patches_picture(), np.full((120, 160), 255, np.uint8)])
    opaque, notes = converted(av.VideoFrame.from_ndarray(rgba, format="rgba"))
    assert patch_error(opaque) == 0
    assert not notes
    rgba[:, :80, 3] = 0
    rgba[:, 80:, 3] = 128
    image, notes = converted(av.VideoFrame.from_ndarray(rgba, format="rgba"))
    assert not image[:, :80].any()
    assert np.abs(image[:, 80:] - opaque[:, 80:] * (128 / 255)).max() <= 1
    assert notes == ["flattened"]


def test_a_format_that_libav_cannot_convert_fails_with_its_name() -> None:
    frame = av.VideoFrame(64, 64, "y216be")
    with pytest.raises(PermanentError, match="y216be") as raised:
        converted(frame)
    assert raised.value.error_class is ErrorClass.UNSUPPORTED


@pytest.mark.parametrize(
    ("size", "pixel_format"),
    [((64, 64), "yaf32le"), ((64, 64), "yaf32be"), ((64, 1), "bayer_rggb8")],
)
def test_what_would_abort_libav_is_refused(size: tuple[int, int], pixel_format: str) -> None:
    frame = av.VideoFrame(*size, pixel_format)
    stream: Any = None
    uses = (
        *(converted, CutDetector(0.1).starts_shot),
        lambda frame: RenderingPlanner(ExtractConfig()).plan(frame, stream),
    )
    for use in uses:
        with pytest.raises(PermanentError, match=pixel_format) as raised:
            use(frame)
        assert raised.value.error_class is ErrorClass.UNSUPPORTED


class _FrameWithSideData:
    """A frame as of Dolby Vision, which no encoder here can make."""

    def __init__(self, **side_data: bytes) -> None:
        self.side_data = side_data


def test_dolby_vision_is_known_by_its_side_data() -> None:
    with_metadata: Any = _FrameWithSideData(DOVI_METADATA=b"1")
    without: Any = _FrameWithSideData()
    assert has_dolby_vision(with_metadata)
    assert not has_dolby_vision(without)
    assert not has_dolby_vision(yuv_frame(to_yuv(TRUE, 6)))


def test_sdr_white_inside_hdr_hardly_changes() -> None:
    for peak in (1.5, 1000 / 203, 4000 / 203, 10000 / 203):
        mapped = roll_off((np.array([200, 235, 255]) / 255) ** 2.4, peak) ** (1 / 2.4) * 255
        assert mapped[0] == pytest.approx(200, abs=0.1)
        assert mapped[1] == pytest.approx(235, abs=3)
        rising = roll_off(np.linspace(0, peak, 5000), peak)
        assert (np.diff(rising) > 0).all()
        assert rising[-1] == pytest.approx(1)
