"""Score how much of what was planted in the demo's videos was found."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dataminer.frames.table import CLUSTERS_FILE, read_table

LEAST_IOU = 0.5
LEAST_RECALL = 0.9
_SAME_MOMENT = 0.02  # seconds within which two frames of a shared scene look the same

Frame = tuple[str, int]  # clip, frame index
Objects = list[tuple[str, Sequence[float]]]  # class, box x1, y1, x2, y2 in pixels


@dataclass(frozen=True)
class Score:
    """What was planted, and how much of it was found.

    ``objects`` and ``found`` count planted objects in kept frames; ``false_positives`` detections
    that match no planted object; ``duplicates`` and ``merged`` pairs of frames that look the same;
    ``spoiled`` dark and blurred frames that were kept.
    """

    frames: int
    objects: int
    found: int
    false_positives: int
    duplicates: int
    merged: int
    spoiled: int

    @property
    def recall(self) -> float:
        """Share of planted objects that were found; 0 if no frame was kept."""
        return self.found / self.objects if self.objects else 0.0

    @property
    def good(self) -> bool:
        """Whether the demo worked as expected."""
        return self.recall >= LEAST_RECALL and self.merged == self.duplicates and not self.spoiled

    def __str__(self) -> str:
        """Return a few lines for people."""
        return (
            f"frames kept         {self.frames}\n"
            f"objects found       {self.found} of {self.objects} ({self.recall:.1%}),"
            f" {self.false_positives} false\n"
            f"duplicates merged   {self.merged} of {self.duplicates}\n"
            f"dark or blurred     {self.spoiled} kept"
        )


def score(project_dir: Path, truth: Path) -> Score:
    """Compare a finished demo project with the ground truth.

    Parameters
    ----------
    project_dir : Path
        ``STORE/projects/NAME``, with ``dedup/clusters.parquet`` and ``detect/annotations.json``.
    truth : Path
        The ``truth.json`` of :func:`demo.clips.make_clips`.

    Returns
    -------
    Score
        The counts.
    """
    known = json.loads(truth.read_text())
    clips = _Clips(project_dir.parent.parent / "videos", list(known["clips"]))
    detections = _detections(project_dir / "detect" / "annotations.json", clips)
    counts: Counter[str] = Counter()
    for (clip, index), found in detections.items():
        frame = known["clips"][clip]["frames"][index]
        planted = [(item["class"], item["bbox"]) for item in frame["objects"]]
        hits = match(planted, found)
        counts.update(objects=len(planted), found=hits, false=len(found) - hits)
        counts["spoiled"] += _kind(known["clips"][clip]["scenes"], frame["time"]) in _SPOILED
    pairs = list(_planted_pairs(known, clips, project_dir / "dedup" / CLUSTERS_FILE))
    return Score(
        frames=len(detections),
        objects=counts["objects"],
        found=counts["found"],
        false_positives=counts["false"],
        duplicates=len(pairs),
        merged=sum(pairs),
        spoiled=counts["spoiled"],
    )


_SPOILED = ("dark", "blurred")


class _Clips:
    """The clip of a video of the store."""

    def __init__(self, videos: Path, names: Sequence[str]) -> None:
        self._videos, self._names = videos, names
        self._known: dict[str, str] = {}

    def __getitem__(self, video_id: str) -> str:
        if video_id not in self._known:
            self._known[video_id] = self._find(video_id)
        return self._known[video_id]

    def _find(self, video_id: str) -> str:
        info = self._videos / video_id / "info.json"
        names = set(_file_names(json.loads(info.read_text()))) if info.is_file() else set()
        for name in self._names:
            if name in names or video_id.startswith(f"{Path(name).stem}-"):
                return name
        raise LookupError(f"the video {video_id} is not one of the demo's clips")


def _file_names(value: Any) -> Iterator[str]:
    """Yield the last part of every text in a JSON value, as if it were a path or URL."""
    if isinstance(value, str):
        yield value.rpartition("/")[2]
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _file_names(part)


def _detections(annotations: Path, clips: _Clips) -> dict[Frame, Objects]:
    """Read the detections in every kept frame, the best score first."""
    dataset = json.loads(annotations.read_text())
    names = {category["id"]: category["name"] for category in dataset["categories"]}
    by_image: dict[int, Objects] = defaultdict(list)
    for item in sorted(dataset["annotations"], key=lambda item: -item["score"]):
        x, y, width, height = item["bbox"]
        box = (x, y, x + width, y + height)
        by_image[item["image_id"]].append((names[item["category_id"]], box))
    return {
        (clips[image["video_id"]], image["frame_index"]): by_image[image["id"]]
        for image in dataset["images"]
    }


def match(planted: Objects, found: Objects) -> int:
    """Count planted objects that were found: right class, and boxes that overlap well.

    Parameters
    ----------
    planted, found : list
        Class and box x1, y1, x2, y2 in pixels; ``found`` with the best score first.

    Returns
    -------
    int
        Each planted and each found object counts at most once.
    """
    left = list(planted)
    for kind, box in found:
        same = [item for item in left if item[0] == kind and iou(item[1], box) >= LEAST_IOU]
        if same:
            left.remove(max(same, key=lambda item: iou(item[1], box)))
    return len(planted) - len(left)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _kind(scenes: Sequence[Mapping[str, Any]], time: float) -> str:
    return next(str(s["kind"]) for s in scenes if s["start"] <= time < s["end"])


def _planted_pairs(known: Mapping[str, Any], clips: _Clips, clusters: Path) -> Iterator[bool]:
    """For all pairs of frames that look the same: whether at most one of them was kept."""
    kept: dict[str, dict[float, tuple[Frame, Frame]]] = defaultdict(dict)
    for row in read_table(clusters).to_pylist():
        clip, index = clips[row["video_id"]], row["frame_index"]
        stands = clips[row["kept_video_id"]], row["kept_frame_index"]
        kept[clip][known["clips"][clip]["frames"][index]["time"]] = (clip, index), stands
    for first, second in known["duplicates"]:
        ours = _within(kept[first["clip"]], first)
        theirs = _within(kept[second["clip"]], second)
        pairs = (
            pairwise(ours)  # a still passage: each frame with the next
            if first == second
            else ((a, b) for a in ours for b in theirs if abs(a[0] - b[0]) <= _SAME_MOMENT)
        )
        for (_, (frame_a, for_a)), (_, (frame_b, for_b)) in pairs:
            yield for_a == for_b or not (for_a == frame_a and for_b == frame_b)


def _within(
    frames: Mapping[float, tuple[Frame, Frame]], span: Mapping[str, Any]
) -> list[tuple[float, tuple[Frame, Frame]]]:
    """Return a span's frames in order, with their seconds since its start."""
    inside = (
        (time, frame) for time, frame in frames.items() if span["start"] <= time < span["end"]
    )
    return sorted((time - span["start"], frame) for time, frame in inside)
