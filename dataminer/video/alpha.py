"""The alpha channel of VP8 and VP9 in Matroska and WebM, which is a second stream of pictures.

A packet of the same codec stands in the BlockAdditional of each block; its luma is the opacity (RFC
9559, 5.1.4.1.28.4). libav's decoders ignore it.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dataminer.video.decoder import read_plane, reformat

_CODECS = ("vp8", "vp9")
# of libav's formats of luma and chroma with alpha, those of which there may be VP8 or VP9
_FORMATS = frozenset(
    f"yuva{chroma}p{depth}" for chroma in (420, 422, 444) for depth in ("", "10le", "12le")
) - {"yuva420p12le"}
_ID_BYTES = 8  # of BlockAddID, before the BlockAdditional itself
_ALPHA = 1  # the BlockAddID of an alpha channel
_Opacity = NDArray[np.float32]  # (height, width), in 0..1


def has_alpha_stream(stream: VideoStream) -> bool:
    """Return whether the opacity of a stream's frames is stored beside them (AlphaMode)."""
    if stream.codec.canonical_name not in _CODECS:
        return False
    # ffmpeg, when it copies a stream, writes AlphaMode as a tag, too, which libav gives in capitals
    return any(
        key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items()
    )


def decoder_of(stream: VideoStream) -> VideoStream | AlphaDecoder:
    """Return what decodes a stream, with its opacity if that is stored beside its frames."""
    return AlphaDecoder(stream) if has_alpha_stream(stream) else stream


class AlphaDecoder:
    """Decodes a stream together with the opacity that is stored beside it.

    Parameters
    ----------
    stream : VideoStream
        Of which nothing has been decoded yet. Its decoder must return the frame of a packet at
        once, and so works on one frame at a time.
    """

    def __init__(self, stream: VideoStream) -> None:
        stream.codec_context.thread_type = "SLICE"
        self._stream = stream
        self._decoder = cast(VideoCodecContext, CodecContext.create(stream.codec.name, "r"))
        self._decoder.thread_count = 1
        self._decoder.options = stream.codec_context.options
        self._reformatter = VideoReformatter()
        self._opacity: _Opacity | None = None

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Decode a packet, or None, which flushes the decoder.

        Frames of packets without opacity are opaque, and come as the codec stores them.

        Raises
        ------
        av.FFmpegError
            If the packet or its opacity cannot be decoded.
        """
        frames = self._stream.decode(packet)
        if packet is not None:
            self._decode_opacity(packet)
        return [self._with_opacity(frame) for frame in frames]

    def _decode_opacity(self, packet: Packet[VideoStream]) -> None:
        side = bytes(packet.get_sidedata("matroska_block_additional"))
        if int.from_bytes(side[:_ID_BYTES]) != _ALPHA or len(side) <= _ID_BYTES:
            self._opacity = None
            return
        own = Packet(side[_ID_BYTES:])
        own.pts, own.dts, own.time_base = packet.pts, packet.dts, packet.time_base
        for frame in self._decoder.decode(own):
            self._opacity = _luma(frame)

    def _with_opacity(self, frame: VideoFrame) -> VideoFrame:
        if self._opacity is None:
            return frame
        stored_range = frame.color_range
        same = Colorspace.ITU601  # of both sides, so that libav keeps the code values
        result = reformat(
            self._reformatter,
            frame,
            format=_format_with_alpha(frame.format.name),
            src_colorspace=same,
            dst_colorspace=same,
            src_color_range=stored_range,
            dst_color_range=stored_range,
        )
        result.colorspace = frame.colorspace
        _fill_alpha(result, self._opacity)
        return result


def _luma(frame: VideoFrame) -> _Opacity:
    """Return the luma of a frame as shares of the largest code value."""
    largest = (1 << frame.format.components[0].bits) - 1
    return np.asarray(read_plane(frame, 0) / np.float32(largest), np.float32)


def _fill_alpha(frame: VideoFrame, opacity: _Opacity) -> None:
    """Write opacity into the last plane of a frame."""
    if opacity.shape != (frame.height, frame.width):
        import cv2  # downloads do not decode, and need not wait 0.2 s

        opacity = np.asarray(cv2.resize(opacity, (frame.width, frame.height)), np.float32)
    plane = read_plane(frame, len(frame.planes) - 1)
    plane[:] = np.rint(opacity * ((1 << frame.format.components[-1].bits) - 1))


def _format_with_alpha(name: str) -> str:
    """Return libav's name of a planar format with alpha, for one of VP8's or VP9's."""
    if name.startswith("gbrp"):
        return name.replace("gbrp", "gbrap")
    same = name.replace("yuv", "yuva")
    # of 4:4:0, and of 4:2:0 with 12 bits, there is none with alpha
    return same if same in _FORMATS else f"yuva444p{name.partition('p')[2]}"
