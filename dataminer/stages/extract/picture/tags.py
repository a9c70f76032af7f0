"""How the colours of a frame are coded, by the code points of ITU-T H.273."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from av.video.frame import VideoFrame
from av.video.stream import VideoStream


class MatrixCode(IntEnum):
    """MatrixCoefficients of H.273, as far as they are used here by name."""

    GBR = 0
    BT709 = 1
    UNSPECIFIED = 2
    FCC = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    YCGCO = 8
    BT2020_NCL = 9
    BT2020_CL = 10
    CHROMA_DERIVED_NCL = 12
    CHROMA_DERIVED_CL = 13
    ICTCP = 14
    YCGCO_RE = 16
    YCGCO_RO = 17


class TransferCode(IntEnum):
    """TransferCharacteristics of H.273, as far as they are used here by name."""

    BT709 = 1
    UNSPECIFIED = 2
    SMPTE170M = 6
    BT2020_10 = 14
    BT2020_12 = 15
    PQ = 16
    HLG = 18


class PrimariesCode(IntEnum):
    """ColourPrimaries of H.273, as far as they are used here by name."""

    BT709 = 1
    UNSPECIFIED = 2
    BT470M = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    FILM = 8
    BT2020 = 9
    DCI_P3 = 11
    DISPLAY_P3 = 12
    EBU3213 = 22


# the names that ffprobe prints (libavutil/pixdesc.c)
_MATRIX_NAMES = (
    *("gbr", "bt709", None, "reserved", "fcc", "bt470bg", "smpte170m", "smpte240m", "ycgco"),
    *("bt2020nc", "bt2020c", "smpte2085", "chroma-derived-nc", "chroma-derived-c", "ictcp"),
    *("ipt-c2", "ycgco-re", "ycgco-ro"),
)
_TRANSFER_NAMES = (
    *("reserved", "bt709", None, "reserved", "bt470m", "bt470bg", "smpte170m", "smpte240m"),
    *("linear", "log100", "log316", "iec61966-2-4", "bt1361e", "iec61966-2-1", "bt2020-10"),
    *("bt2020-12", "smpte2084", "smpte428", "arib-std-b67"),
)
_PRIMARIES_NAMES = {
    **dict(enumerate(("reserved", "bt709", None, "reserved", "bt470m", "bt470bg", "smpte170m"))),
    **dict(enumerate(("smpte240m", "film", "bt2020", "smpte428", "smpte431", "smpte432"), 7)),
    22: "ebu3213",
}


@dataclass(frozen=True)
class ColourTags:
    """What a frame says about its colours."""

    format_name: str
    """libav's name of the pixel format."""
    matrix: int
    transfer: int
    primaries: int
    color_range: int
    """libav's: 0 if the video does not say, 1 for limited, 2 for full."""

    @property
    def full_range(self) -> bool:
        """Whether black is 0, not 16 of 255; formats such as ``yuvj420p`` say it, too."""
        return self.color_range == _FULL_RANGE or self.format_name.startswith("yuvj")

    @property
    def limited_range(self) -> bool:
        """Whether the video says that black is 16 of 255."""
        return self.color_range == _LIMITED_RANGE and not self.full_range

    @property
    def matrix_name(self) -> str | None:
        """As ffprobe prints it; None if the video does not say."""
        return _name(dict(enumerate(_MATRIX_NAMES)), self.matrix)

    @property
    def transfer_name(self) -> str | None:
        """As ffprobe prints it; None if the video does not say."""
        return _name(dict(enumerate(_TRANSFER_NAMES)), self.transfer)

    @property
    def primaries_name(self) -> str | None:
        """As ffprobe prints it; None if the video does not say."""
        return _name(_PRIMARIES_NAMES, self.primaries)

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer function is one of the two of BT.2100."""
        return self.transfer in (TransferCode.PQ, TransferCode.HLG)


@dataclass(frozen=True)
class DeclaredColours:
    """What a file declares about the colours of a stream, as code points of H.273.

    Some decoders (of H.265, VP9 and ProRes) forget it if their own headers say nothing.
    """

    colorspace: int
    color_range: int
    color_trc: int
    color_primaries: int

    @classmethod
    def of(cls, stream: VideoStream) -> DeclaredColours:
        """Return what is declared of a stream; called before its first frame is decoded."""
        context = stream.codec_context
        matrix = context.colorspace
        if matrix == MatrixCode.GBR:  # pictures in RGB do not need it, and FLV says it of others
            matrix = MatrixCode.UNSPECIFIED
        return cls(matrix, context.color_range, context.color_trc, context.color_primaries)

    def complete(self, frame: VideoFrame) -> None:
        """Add to a frame's own tags those that only the file declares."""
        if frame.colorspace == MatrixCode.UNSPECIFIED:
            frame.colorspace = self.colorspace
        if frame.color_range == _UNSPECIFIED_RANGE:
            frame.color_range = self.color_range
        if frame.color_trc == TransferCode.UNSPECIFIED:
            frame.color_trc = self.color_trc
        if frame.color_primaries == PrimariesCode.UNSPECIFIED:
            frame.color_primaries = self.color_primaries


def colour_tags(frame: VideoFrame) -> ColourTags:
    """Return what a frame says about its colours."""
    return ColourTags(
        frame.format.name,
        frame.colorspace,
        frame.color_trc,
        frame.color_primaries,
        frame.color_range,
    )


_UNSPECIFIED_RANGE, _LIMITED_RANGE, _FULL_RANGE = range(3)  # of AVColorRange


def _name(names: dict[int, str | None] | dict[int, str], code: int) -> str | None:
    return names.get(code, "reserved")
