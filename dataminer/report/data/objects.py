"""The objects that were found in a project's unique frames, in numbers and examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataminer.formats.contact_sheet import spread
from dataminer.report.data.frames import Shot
from dataminer.store.documents import read_annotations
from dataminer.store.layout import ANNOTATIONS_FILE
from dataminer.text import cut

_LONGEST = 64  # characters of a class name or an id: a page of many boxes must stay small
_EMPTY_SHARE = 6  # one of this many examples is a frame without objects


@dataclass(frozen=True)
class AnnotatedFrame:
    """A frame with its objects.

    Parameters
    ----------
    shot : Shot
        The frame.
    width, height : int
        Of the picture, in pixels.
    boxes : list of dict
        COCO annotations: ``bbox`` in pixels, ``category_id``, ``score``.
    """

    shot: Shot
    width: int
    height: int
    boxes: list[dict[str, Any]]


@dataclass(frozen=True)
class Objects:
    """The annotations of a project.

    Parameters
    ----------
    info : dict
        COCO's ``info``: the model, its sha256, the minimum score.
    names : dict of int to str
        Class names by category id.
    images : dict of str to int
        Number of frames per video.
    per_video, per_class : Counter
        Number of objects per video, and per category id.
    per_frame : ndarray of int64, shape (frames,)
        Number of objects in each frame.
    scores : ndarray of float64, shape (objects,)
        Score of each object that has one.
    boxes : ndarray of float64, shape (objects, 4)
        Centre x, centre y, width and height, relative to the picture's size.
    examples : list of AnnotatedFrame
        Frames, spread evenly over the dataset.
    """

    info: dict[str, Any]
    names: dict[int, str]
    images: dict[str, int]
    per_video: Counter[str]
    per_class: Counter[int]
    per_frame: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    examples: list[AnnotatedFrame]


def read_objects(detect_dir: Path, most: int) -> Objects | None:
    """Read a project's annotations; None if detect has not run.

    Parameters
    ----------
    detect_dir : Path
        The folder of ``annotations.json``.
    most : int
        Maximum number of examples.
    """
    path = detect_dir / ANNOTATIONS_FILE
    if not path.is_file():
        return None
    dataset = read_annotations(path)
    images = {image["id"]: image for image in dataset["images"]}
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in dataset["annotations"]:
        found[annotation["image_id"]].append(annotation)
    annotations = dataset["annotations"]
    return Objects(
        info=dataset.get("info") or {},
        names={
            category["id"]: cut(str(category["name"]), _LONGEST)
            for category in dataset["categories"]
        },
        images=Counter(str(image.get("video_id", "")) for image in images.values()),
        per_video=Counter(str(images[a["image_id"]].get("video_id", "")) for a in annotations),
        per_class=Counter(annotation["category_id"] for annotation in annotations),
        per_frame=np.array([len(found.get(number, ())) for number in images], np.int64),
        scores=np.array([a["score"] for a in annotations if "score" in a], np.float64),
        boxes=_shares(annotations, images),
        examples=_examples(images, found, most),
    )


def _shares(
    annotations: Sequence[Mapping[str, Any]], images: Mapping[int, Mapping[str, Any]]
) -> NDArray[np.float64]:
    boxes = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
    sizes = np.array(
        [[images[a["image_id"]][side] for side in ("width", "height")] for a in annotations],
        np.float64,
    ).reshape(-1, 2)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    shares: NDArray[np.float64] = np.concatenate([centres / sizes, boxes[:, 2:] / sizes], axis=1)
    return shares


def _examples(
    images: Mapping[int, Mapping[str, Any]],
    found: Mapping[int, list[dict[str, Any]]],
    most: int,
) -> list[AnnotatedFrame]:
    """Choose frames evenly: most with objects, a few without."""
    having = [number for number in images if number in found]
    without = [number for number in images if number not in found]
    empty = min(len(without), max(most // _EMPTY_SHARE, most - len(having)))
    chosen = sorted([*spread(having, most - empty), *(spread(without, empty) if empty else [])])
    return [_drawn(images[number], found.get(number, [])) for number in chosen]


def _drawn(image: Mapping[str, Any], boxes: list[dict[str, Any]]) -> AnnotatedFrame:
    shot = Shot(
        cut(str(image.get("video_id", "")), _LONGEST),
        str(image["file_name"]),
        int(image.get("frame_index", 0)),
        float(image.get("pts_time", 0.0)),
    )
    return AnnotatedFrame(shot, int(image["width"]), int(image["height"]), boxes)
