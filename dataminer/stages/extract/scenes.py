"""Detection of cuts between shots."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from dataminer.stages.extract.picture.matrices import luma_options
from dataminer.video.decoder import convert_frame

_LONGER_SIDE = 160  # pixels: enough to distinguish frames, and noise averages out


class CutDetector:
    """Detects cuts by how much the luma changes from frame to frame, and how suddenly.

    The measure is that of ffmpeg's filters ``scdet`` and ``select`` (get_scene_score in
    libavfilter/f_select.c): with m the mean absolute difference of luma to the frame before, as a
    share of full scale, the score is the smaller of m and the difference between m and that of the
    frame before. The difference keeps steady motion and the end of a flash from counting as cuts.
    Unlike in ffmpeg, frames are reduced to 160 pixels first, so that a threshold means the same at
    any size.

    Parameters
    ----------
    threshold : float
        Scores above it are cuts; ffmpeg's ``scdet`` has 0.1.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._reformatter = VideoReformatter()
        self._luma: NDArray[np.int16] | None = None
        self._change = 0.0

    def starts_shot(self, frame: VideoFrame) -> bool:
        """Return whether the next frame, in presentation order, is the first of a shot."""
        before, self._luma = self._luma, self._small_luma(frame)
        if before is None or before.shape != self._luma.shape:
            self._change = 0.0
            return True
        change = float(np.abs(self._luma - before).mean()) / 255
        score = min(change, abs(change - self._change))
        self._change = change
        return score > self._threshold

    def _small_luma(self, frame: VideoFrame) -> NDArray[np.int16]:
        scale = min(1.0, _LONGER_SIDE / max(frame.width, frame.height))
        grey = convert_frame(
            self._reformatter,
            frame,
            width=max(1, round(frame.width * scale)),
            height=max(1, round(frame.height * scale)),
            format="gray",
            interpolation=Interpolation.AREA,
            **luma_options(frame),
        )
        return grey.astype(np.int16)
