"""From decoded frames to pictures in SDR, with the colours that a player would show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from dataminer.stages.extract.picture.gamut import KNOWN_PRIMARIES, WIDE_GAMUTS
from dataminer.stages.extract.picture.matrices import (
    Decoder,
    DeepYuvImage,
    decoder_of,
    is_converted_by_libav,
)
from dataminer.stages.extract.picture.stored import bit_depth
from dataminer.stages.extract.picture.tags import (
    ColourTags,
    MatrixCode,
    PrimariesCode,
    TransferCode,
)
from dataminer.stages.extract.picture.tone_mapping import (
    DeepBgrImage,
    ToneMapper,
    declared_peak,
    has_dolby_vision,
)
from dataminer.stages.extract.quality.arrays import BgrImage
from dataminer.video.decoder import (
    convert_deep_frame,
    convert_frame,
    read_plane,
    reformat,
)

_NO_MATRIX = (MatrixCode.UNSPECIFIED, MatrixCode.GBR)  # of luma and chroma
_SWAPPED = ("rgb555be", "rgb565be", "bgr555be", "bgr565be")
_FLOATS = ("f16le", "f16be", "f32le", "f32be")
_Code = TypeVar("_Code", np.uint8, np.uint16)
_SHALLOW_BITS = 8
_OPAQUE = 252  # of 255, and above: so little is lost by encoders of video
_SD_HEIGHT, _SD_WIDTH = 576, 1279  # the largest picture that is taken as standard definition


@dataclass(frozen=True)
class Conversion:
    """How frames with the same tags are converted."""

    colorspace: int | None = None
    """The matrix for libav, if not the frame's own."""
    decoder: Decoder | None = None
    """Decodes a matrix that libav does not know."""
    mapper: ToneMapper | None = None
    bits: int = 8
    has_alpha: bool = False
    has_alpha_plane: bool = False
    """Whether opacity is a plane of integers."""
    is_swapped: bool = False
    """Whether libav confuses the bytes of pixels when it makes colours of 8 bits of them."""
    is_expanded: bool = False
    """Whether black is 16 of 255 in RGB or in luma alone: libav takes it as 0 there."""
    notes: tuple[str, ...] = ()
    """Keys of ``NOTE_KINDS`` that count each frame."""


class ConversionPlanner:
    """Decides how frames are converted, once for frames with the same tags.

    Parameters
    ----------
    hdr : {"tone_map", "keep"}
        Whether HDR and wide gamuts become SDR in BT.709, or code values are kept.
    """

    def __init__(self, hdr: Literal["tone_map", "keep"]) -> None:
        self._maps = hdr == "tone_map"
        self._peak: tuple[float | None] | None = None
        self._known: dict[tuple[ColourTags, bool], Conversion] = {}

    def plan(self, frame: VideoFrame, tags: ColourTags) -> Conversion:
        """Return how to convert a frame; called in the order of the video's frames."""
        key = tags, _is_high_definition(frame)
        if key not in self._known:
            self._known[key] = self._new_plan(frame, tags)
        return self._known[key]

    def _new_plan(self, frame: VideoFrame, tags: ColourTags) -> Conversion:
        pixels = frame.format
        has_alpha = any(component.is_alpha for component in pixels.components)
        is_float = pixels.name.endswith(_FLOATS)
        plan = Conversion(
            bits=bit_depth(frame),
            has_alpha=has_alpha or pixels.has_palette,
            has_alpha_plane=has_alpha and pixels.is_planar and not is_float,
            is_swapped=pixels.name in _SWAPPED,
            mapper=self._mapper(frame, tags) if self._maps else None,
            is_expanded=tags.limited_range and _counts_as_full_range(pixels),
        )
        if plan.mapper and tags.is_hdr:
            plan = replace(plan, notes=("tone_mapped",))
        return _with_matrix(plan, frame, tags)

    def _mapper(self, frame: VideoFrame, tags: ColourTags) -> ToneMapper | None:
        if tags.is_hdr:
            known = tags.primaries in KNOWN_PRIMARIES
            primaries = tags.primaries if known else PrimariesCode.BT2020
            if tags.transfer == TransferCode.HLG:
                return ToneMapper.of_hlg(primaries)
            if self._peak is None:  # of the first frame: brightness does not change midway
                self._peak = (declared_peak(frame),)
            return ToneMapper.of_pq(primaries, self._peak[0])
        return ToneMapper.of_sdr(tags.primaries) if tags.primaries in WIDE_GAMUTS else None


def _with_matrix(plan: Conversion, frame: VideoFrame, tags: ColourTags) -> Conversion:
    """Add what to do about a matrix that libav cannot convert, or that is not said."""
    is_known = is_converted_by_libav(tags.matrix)
    if not _has_chroma(frame.format):  # libav refuses tags that it does not know even then
        return plan if is_known else replace(plan, colorspace=Colorspace.ITU601)
    decoder = decoder_of(tags)
    if decoder:
        return replace(plan, decoder=decoder)
    usual: Colorspace | None = None  # libav's own
    if tags.is_hdr and (not is_known or tags.matrix in _NO_MATRIX):
        usual = Colorspace.BT2020
    elif not is_known or tags.matrix == MatrixCode.GBR:
        usual = Colorspace.ITU709 if _is_high_definition(frame) else Colorspace.ITU601
    says_nothing = tags.matrix == tags.transfer == MatrixCode.UNSPECIFIED
    # without tags beside it, the picture is in Dolby's own colours, which libav does not convert
    is_dolbys = says_nothing and has_dolby_vision(frame)
    if usual or is_dolbys or tags.matrix == MatrixCode.GBR:
        return replace(plan, colorspace=usual, notes=(*plan.notes, "assumed_matrices"))
    return plan


def _is_high_definition(frame: VideoFrame) -> bool:
    return frame.height > _SD_HEIGHT or frame.width > _SD_WIDTH


def _has_chroma(pixels: VideoFormat) -> bool:
    """Return whether colours are stored as luma and chroma."""
    colours = [component for component in pixels.components if not component.is_alpha]
    return len(colours) == 3 and not pixels.is_rgb and not pixels.name.startswith("xyz")


def _counts_as_full_range(pixels: VideoFormat) -> bool:
    """Return whether libav ignores the range: of RGB, and of luma alone, of more than one bit."""
    colours = [component for component in pixels.components if not component.is_alpha]
    has_shades = colours[0].bits > 1 and not pixels.has_palette
    return has_shades and (pixels.is_rgb or len(colours) == 1)


class FrameConverter:
    """Converts frames as planned; used by one thread at a time."""

    def __init__(self) -> None:
        # libav prepares each kind of conversion once as long as they do not alternate
        self._colours = VideoReformatter()
        self._deepening = VideoReformatter()
        self._alpha = VideoReformatter()

    def convert(self, frame: VideoFrame, plan: Conversion) -> tuple[BgrImage, bool]:
        """Convert a frame.

        Returns
        -------
        tuple of BgrImage and bool
            The picture, and whether it was transparent in parts: black shows through.

        Raises
        ------
        PermanentError
            UNSUPPORTED if libav cannot convert such frames.
        """
        alpha = self._alpha_of(frame, plan) if plan.has_alpha else None
        image = self._opaque(frame, plan)
        if alpha is None:
            return image, False
        for colour in range(3):  # one by one: a large picture fills the memory
            plane = cv2.multiply(image[..., colour], alpha, scale=1 / 255)
            image[..., colour] = np.asarray(plane, np.uint8)
        return image, True

    def _alpha_of(self, frame: VideoFrame, plan: Conversion) -> NDArray[np.uint8] | None:
        """Return the opacity of each pixel; None if all are opaque."""
        if plan.has_alpha_plane:
            # libav gives 254 of 255 for 4:2:2, and garbage at the right edge of most widths
            alpha = _shallow(read_plane(frame, len(frame.planes) - 1), plan.bits)
        else:
            # it is the same by any matrix, and this one is known to libav
            same = Colorspace.ITU601
            pixels = convert_frame(self._alpha, frame, format="bgra", src_colorspace=same)
            alpha = np.ascontiguousarray(pixels[..., 3])
        return None if alpha.min() >= _OPAQUE else alpha

    def _opaque(self, frame: VideoFrame, plan: Conversion) -> BgrImage:
        if plan.decoder is None and plan.mapper is None and not plan.is_swapped:
            options = {"src_colorspace": plan.colorspace} if plan.colorspace else {}
            image = convert_frame(self._colours, frame, format="bgr24", **options)
            return _in_full_range(image) if plan.is_expanded else image
        deep = self._deep(frame, plan)
        if plan.is_expanded:
            deep = _in_full_range(deep)
        return plan.mapper.apply(deep) if plan.mapper else _rounded(deep)

    def _deep(self, frame: VideoFrame, plan: Conversion) -> DeepBgrImage:
        if plan.decoder is None:
            # libav loses chroma in the last two columns of odd widths
            is_lossy = plan.bits == _SHALLOW_BITS or frame.width % 2
            if is_lossy and _has_chroma(frame.format):
                frame = self._deepened(frame)
            return convert_deep_frame(
                self._colours, frame, format="bgr48le", src_colorspace=plan.colorspace
            )
        return plan.decoder(self._yuv(frame), plan.bits)

    def _yuv(self, frame: VideoFrame) -> DeepYuvImage:
        return np.asarray(self._deepened(frame).to_ndarray(), np.uint16)

    def _deepened(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame with the same code values of 16 bits, and chroma in every pixel.

        libav makes deep colours of shallow luma and chroma by way of shallow colours.
        """
        stored_range = frame.color_range
        same = Colorspace.ITU601  # of both sides, so that libav keeps the code values
        deep = reformat(
            self._deepening,
            frame,
            format="yuv444p16le",
            src_colorspace=same,
            dst_colorspace=same,
            src_color_range=stored_range,
            dst_color_range=stored_range,
        )
        deep.colorspace = frame.colorspace
        return deep


def _shallow(codes: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Return code values of some bits as ones of 8."""
    if codes.dtype == np.uint8:
        return np.asarray(codes, np.uint8)
    return np.asarray(cv2.convertScaleAbs(codes, alpha=255 / ((1 << bits) - 1)), np.uint8)


def _rounded(image: DeepBgrImage) -> BgrImage:
    return np.asarray(cv2.convertScaleAbs(image, alpha=1 / 257), np.uint8)


def _in_full_range(image: NDArray[_Code]) -> NDArray[_Code]:
    """Return an image in which 16 and 235 of 255 are black and white as 0 and 255."""
    last = np.iinfo(image.dtype).max
    codes = np.arange(last + 1) / last * 255
    table = np.rint(np.clip((codes - 16) / 219, 0, 1) * last).astype(image.dtype)
    return np.asarray(np.take(table, image))
