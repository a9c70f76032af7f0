"""Five short videos, drawn frame by frame, with the ground truth of every frame."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from dataminer.files.publishing import atomic_write, publish_dir, staging_dir
from demo.shapes import CLASSES, COLOURS, BBox, Image, Shape, draw, photographs

TRUTH_FILE = "truth.json"
WIDTH, HEIGHT, FPS = 640, 360, 25
_TICKS = 1000  # ticks of the time base per second
_MARGIN = 8  # pixels between shapes and the frame's edge


@dataclass(frozen=True)
class Scene:
    """Some seconds of a clip: a photograph, shapes that move over it, and their changes.

    ``seed`` determines the whole picture: two scenes with the same seed look the same.
    """

    seed: int
    seconds: int
    kind: str = "normal"  # or still, dark, blurred, shared


@dataclass(frozen=True)
class Clip:
    """One video: its scenes in order, the encoder's quality (CRF: less is better), its timing."""

    name: str
    scenes: tuple[Scene, ...]
    crf: int = 20
    variable_rate: bool = False


@dataclass(frozen=True)
class Frame:
    """One drawn frame: its pixels, its time in seconds, and the class and box of every shape."""

    image: Image
    time: float
    objects: tuple[tuple[str, BBox], ...]


_SHARED = Scene(seed=3, seconds=4, kind="shared")
CLIPS = (
    Clip("street", (Scene(0, 5), _SHARED, Scene(0, 3, "dark"))),
    Clip("field", (Scene(1, 4), Scene(1, 5, "still"), Scene(4, 4))),
    Clip("launch", (Scene(5, 5), Scene(6, 4, "blurred"), Scene(6, 4))),
    Clip("garage", (Scene(7, 4), Scene(2, 4), replace(_SHARED)), crf=33),
    Clip("uneven", (Scene(9, 5), Scene(12, 6)), variable_rate=True),
)


def make_clips(folder: Path) -> Path:
    """Draw the demo's videos and write their ground truth.

    The same packages produce the same files, byte for byte.

    Parameters
    ----------
    folder : Path
        The folder for ``*.mp4`` and ``truth.json``; an existing one is replaced as a whole.

    Returns
    -------
    Path
        The path of ``truth.json``: under ``clips``, by file name, ``scenes`` (start and end in
        seconds, kind) and ``frames`` (time in seconds; objects with class and bbox x1, y1, x2, y2
        in pixels), and under ``duplicates`` pairs of spans that look the same.
    """
    pictures = photographs()
    with staging_dir(folder) as staging:
        clips = {f"{clip.name}.mp4": make_clip(staging, clip, pictures) for clip in CLIPS}
        truth = {"classes": CLASSES, "clips": clips, "duplicates": _duplicates()}
        with atomic_write(staging / TRUTH_FILE) as partial:
            partial.write_text(json.dumps(truth, indent=None, separators=(",", ":")))
        publish_dir(staging, folder)
    return folder / TRUTH_FILE


def make_clip(folder: Path, clip: Clip, pictures: list[Image]) -> dict[str, Any]:
    """Draw one video over photographs, as ``NAME.mp4``; returns its part of the ground truth."""
    truth: list[dict[str, Any]] = []
    with av.open(str(folder / f"{clip.name}.mp4"), "w") as container:
        # one thread: the number of threads changes what x264 writes
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.options = {"preset": "veryfast", "crf": str(clip.crf), "threads": "1"}
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, _TICKS)
        for frame in frames(clip, pictures):
            packed = av.VideoFrame.from_ndarray(frame.image, format="bgr24")
            packed.pts, packed.time_base = round(frame.time * _TICKS), Fraction(1, _TICKS)
            container.mux(stream.encode(packed))
            truth.append({"time": frame.time, "objects": _rounded(frame.objects)})
        container.mux(stream.encode())
    return {"scenes": _spans(clip), "frames": truth}


def _rounded(objects: tuple[tuple[str, BBox], ...]) -> list[dict[str, Any]]:
    return [{"class": kind, "bbox": [round(v, 2) for v in box]} for kind, box in objects]


def _spans(clip: Clip) -> list[dict[str, Any]]:
    spans, start = [], 0
    for scene in clip.scenes:
        spans.append({"start": start, "end": start + scene.seconds, "kind": scene.kind})
        start += scene.seconds
    return spans


def _duplicates() -> list[list[dict[str, Any]]]:
    """Pairs of spans that look the same: a still scene with itself, the shared one in two clips."""
    spans = [{"clip": f"{clip.name}.mp4", **span} for clip in CLIPS for span in _spans(clip)]
    still = [[span, span] for span in spans if span["kind"] == "still"]
    return [*still, [span for span in spans if span["kind"] == "shared"]]


def frames(clip: Clip, pictures: list[Image]) -> Iterator[Frame]:
    """Draw a clip's frames one after the other.

    Parameters
    ----------
    clip : Clip
        What to draw.
    pictures : list of ndarray
        The photographs to draw over, from :func:`demo.shapes.photographs`.

    Yields
    ------
    Frame
        In presentation order.
    """
    start = 0
    for scene in clip.scenes:
        actors = _Actors(scene, pictures)
        for index in range(scene.seconds * FPS):
            # an uneven clip lacks frames, like a screen recording while nothing happens
            if clip.variable_rate and index % 25 and (index * index) % 7 > 2:
                continue
            yield actors.frame(index / FPS, start + index / FPS)
        start += scene.seconds


class _Actors:
    """A scene's photograph, camera and shapes, all determined by its seed."""

    def __init__(self, scene: Scene, pictures: list[Image]) -> None:
        rng = np.random.default_rng(scene.seed)
        self.scene = scene
        self.picture = pictures[scene.seed % len(pictures)]
        self.views = _camera(rng, self.picture, scene.seconds)
        count = int(rng.integers(2, 4))
        kinds = rng.permutation(len(CLASSES))
        colours = rng.permutation(len(COLOURS))
        self.tracks = [
            _Track(rng, lane, count, CLASSES[kinds[lane]], int(colours[lane]))
            for lane in range(count)
        ]

    def frame(self, inside: float, time: float) -> Frame:
        """Draw the frame ``inside`` seconds after the scene's cut."""
        moment = 0.0 if self.scene.kind == "still" else inside
        image = self._background(moment / self.scene.seconds)
        shapes = [track.at(moment) for track in self.tracks]
        objects = tuple((shape.kind, draw(image, shape)) for shape in shapes)
        return Frame(self._disturbed(image), round(time, 3), objects)

    def _background(self, progress: float) -> Image:
        view = self.views[0] + (self.views[1] - self.views[0]) * progress
        x, y, zoom = view
        matrix = np.array([[zoom, 0, -x * zoom], [0, zoom, -y * zoom]])
        size = (WIDTH, HEIGHT)
        return cv2.warpAffine(self.picture, matrix, size, borderMode=cv2.BORDER_REFLECT)  # type: ignore[return-value]

    def _disturbed(self, image: Image) -> Image:
        if self.scene.kind == "dark":
            return cv2.convertScaleAbs(image, alpha=0.07)  # type: ignore[return-value]
        if self.scene.kind == "blurred":
            return cv2.GaussianBlur(image, (0, 0), 7)  # type: ignore[return-value]
        return image


def _camera(rng: np.random.Generator, picture: Image, seconds: int) -> np.ndarray:
    """Choose the first and last view as rows x, y, zoom: corner in the photograph, and scale."""
    height, width = picture.shape[:2]
    views = []
    for corner in rng.permutation([(0, 0), (1, 1), (0, 1), (1, 0)])[:2]:
        zoom = rng.uniform(WIDTH / width, 1.15)
        zoom = max(zoom, HEIGHT / height)
        room = np.array([width - WIDTH / zoom, height - HEIGHT / zoom])
        views.append([*(room * (0.1 + 0.8 * corner)), zoom])
    return np.array(views)


class _Track:
    """The path of one shape, which swings within its own vertical lane: no two ever overlap."""

    def __init__(
        self, rng: np.random.Generator, lane: int, lanes: int, kind: str, colour: int
    ) -> None:
        breadth = (WIDTH - 2 * _MARGIN) / lanes
        self.size = float(rng.uniform(48, 105))
        radius = self.size * 0.72
        self.centre = np.array([_MARGIN + (lane + 0.5) * breadth, HEIGHT / 2])
        self.swing = np.array([breadth / 2 - radius, HEIGHT / 2 - _MARGIN - radius])
        self.phase = rng.uniform(0, 2 * np.pi, 2)
        self.speed = rng.uniform(0.5, 1.1, 2)
        self.turn = float(rng.uniform(8, 30))
        self.kind, self.colour = kind, colour

    def at(self, seconds: float) -> Shape:
        """Return the shape at some seconds after the cut."""
        x, y = self.centre + self.swing * np.sin(self.phase + self.speed * seconds)
        angle = self.turn * float(np.sin(self.phase[0] + seconds))
        return Shape(self.kind, float(x), float(y), self.size, angle, self.colour)
