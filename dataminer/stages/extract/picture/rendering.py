"""From decoded frames to the pictures that players show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from av.video.frame import VideoFrame

from dataminer.config.models import ExtractConfig
from dataminer.stages.extract.picture.conversion import (
    Conversion,
    ConversionPlanner,
    FrameConverter,
)
from dataminer.stages.extract.picture.deinterlacing import Deinterlacer, Neighbours
from dataminer.stages.extract.picture.stored import StoredPicture, bit_depth
from dataminer.stages.extract.picture.tags import ColourTags, DeclaredColours, colour_tags
from dataminer.stages.extract.quality.arrays import BgrImage
from dataminer.video.decoder import check_convertible
from dataminer.video.display.geometry import Geometry, StreamGeometry
from dataminer.video.display.orientation import Orientation, orientation_of
from dataminer.video.limits import FileLimits


@dataclass(frozen=True)
class Rendering:
    """How a frame becomes a picture."""

    conversion: Conversion
    geometry: Geometry
    stored: StoredPicture
    parity: str | None
    """Of interlaced frames; see :meth:`Deinterlacer.deinterlaced`."""
    notes: tuple[str, ...]
    """Keys of ``NOTE_KINDS`` that count each frame."""


@dataclass(frozen=True)
class Picture:
    """A frame as players show it."""

    image: BgrImage
    stored: StoredPicture
    notes: tuple[str, ...]
    """Keys of ``NOTE_KINDS`` that count it."""


@dataclass(frozen=True)
class StreamPicture:
    """What a file declares about the pictures of a stream."""

    geometry: StreamGeometry
    colours: DeclaredColours
    parity: str | None = None
    """See :func:`declared_parity`."""


class RenderingPlanner:
    """Decides how frames are rendered; called with frames in the order of the video.

    Parameters
    ----------
    settings : ExtractConfig
        What to do about geometry and HDR, and how large frames may be.
    """

    def __init__(self, settings: ExtractConfig) -> None:
        self._applies_geometry = settings.geometry == "display"
        self._limits = FileLimits("extract", settings.max_megapixels, settings.max_memory_mb)
        self._conversions = ConversionPlanner(settings.hdr)
        self._renderings: dict[tuple[object, ...], Rendering] = {}
        self._last_orientation: tuple[int, Orientation] | None = None
        self.geometry: Geometry | None = None
        """Of the first frame."""

    def plan(self, frame: VideoFrame, stream: StreamPicture) -> Rendering:
        """Return how to render the frame that was decoded last.

        Raises
        ------
        PermanentError
            UNSUPPORTED if it is displayed with more pixels than allowed, or cannot be converted.
        """
        check_convertible(frame)
        stream.colours.complete(frame)
        tags = colour_tags(frame)
        geometry = stream.geometry.of_frame(self._orientation_of(frame), frame)
        parity = "auto" if frame.interlaced_frame else stream.parity
        key = tags, geometry, parity, frame.width, frame.height
        if key not in self._renderings:
            self._renderings[key] = self._new_plan(frame, tags, geometry, parity)
        return self._renderings[key]

    def _new_plan(
        self, frame: VideoFrame, tags: ColourTags, declared: Geometry, parity: str | None
    ) -> Rendering:
        geometry = declared if self._applies_geometry else Geometry()
        self.geometry = self.geometry or geometry
        width, height = geometry.displayed_size(frame.width, frame.height)
        what = f"a frame displayed with {width}x{height} pixels"
        self._limits.check_megapixels(width * height / 1e6, what)
        conversion = self._conversions.plan(frame, tags)
        ratio = declared.sample_aspect_ratio
        stored = StoredPicture(
            deinterlaced=False,
            sample_aspect_ratio=None if ratio == 1 else f"{ratio.numerator}:{ratio.denominator}",
            transfer=tags.transfer_name,
            primaries=tags.primaries_name,
            matrix=tags.matrix_name,
            bit_depth=bit_depth(frame),
        )
        unscaled = replace(geometry, sample_aspect_ratio=Fraction(1))
        is_scaled = (width, height) != unscaled.displayed_size(frame.width, frame.height)
        squared = ("squared",) * is_scaled
        cropped = ("cropped",) * geometry.cropping.applies_to(frame.width, frame.height)
        notes = (*conversion.notes, *squared, *cropped)
        return Rendering(conversion, geometry, stored, parity, notes)

    def _orientation_of(self, frame: VideoFrame) -> Orientation:
        # Read only if it changed: reading puts a frame into a reference cycle, and frames that
        # waited for the garbage collector took 400 MB of a 1080p video
        if self._last_orientation is None or frame.rotation != self._last_orientation[0]:
            self._last_orientation = frame.rotation, orientation_of(frame)
        return self._last_orientation[1]


class Renderer:
    """Renders frames as planned; used by one thread at a time."""

    def __init__(self) -> None:
        self._converter = FrameConverter()
        self._deinterlacer = Deinterlacer()

    def render(self, frame: VideoFrame, neighbours: Neighbours, rendering: Rendering) -> Picture:
        """Render a frame; neighbours are looked at if it is interlaced.

        Raises
        ------
        PermanentError
            UNSUPPORTED if libav cannot convert such frames.
        """
        stored, notes = rendering.stored, rendering.notes
        if rendering.parity and self._deinterlacer.is_combed(frame, neighbours):
            frame = self._deinterlacer.deinterlaced(frame, rendering.parity)
            stored, notes = replace(stored, deinterlaced=True), (*notes, "deinterlaced")
        image, is_transparent = self._converter.convert(frame, rendering.conversion)
        if is_transparent:
            notes = (*notes, "flattened")
        return Picture(rendering.geometry.apply(image), stored, notes)
