"""Reference pictures of each kind, and frames that show them or something else."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dataminer.config.models import DedupConfig
from dataminer.frames.table import CLUSTERS_FILE, FRAMES_FILE, read_meta, read_table
from dataminer.stages.dedup.near_references import Excluder
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.stages.dedup.references.table import read_excluded
from dataminer.stages.dedup.stage import DedupResult, dedup
from tests.support.drawn_scenes import Picture, scene, write_frames

COPIES = ("same", "recompressed", "resized", "flipped", "all")
Frame = tuple[str, int]


def altered(picture: Picture, how: str) -> Picture:
    """Return a copy of a picture: one of ``COPIES``."""
    made = picture
    if how in ("resized", "all"):
        size = (picture.shape[1] * 2 // 5, picture.shape[0] * 2 // 5)
        made = np.asarray(cv2.resize(made, size, interpolation=cv2.INTER_AREA), np.uint8)
    if how in ("flipped", "all"):
        made = np.asarray(cv2.flip(made, 1), np.uint8)
    if how in ("recompressed", "all"):
        packed = cv2.imencode(".jpg", made, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
        made = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return made


def write_image(path: Path, picture: Picture) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)
    return path


def write_coco(path: Path, names: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return path


def write_archive(path: Path, pictures: dict[str, Picture], suffix: str = ".jpg") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, picture in pictures.items():
            file = path.parent / f"member{suffix}"
            assert cv2.imwrite(str(file), picture)
            archive.add(file, name)
            file.unlink()
    return path


class Mined:
    """A project's frames, and dedup run over them with references."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "none"
        self.runs = 0
        self.messages: list[str] = []

    def video(self, name: str, pictures: list[Picture], **values: Any) -> None:
        write_frames(self.root / "filtered" / name, pictures, **values)

    def dedup(self, *exclude: Path | str, **settings: Any) -> DedupResult:
        given = DedupConfig(exclude=[str(path) for path in exclude], **settings)
        before, self.out = self.out, self.root / f"out{self.runs}"
        self.runs += 1
        self.out.mkdir()
        references = ReferencePictures.of(given)
        excluder = None
        if references:
            excluder = Excluder(references, self.root / "cache", given, self.messages.append)
        return dedup(
            sorted((self.root / "filtered").iterdir()),
            self.out,
            given,
            previous=before,
            excluder=excluder,
            progress=self.messages.append,
        )

    @property
    def meta(self) -> dict[str, Any]:
        return read_meta(self.out / FRAMES_FILE)

    @property
    def excluded(self) -> dict[Frame, dict[str, Any]]:
        table = read_excluded(self.out)
        rows = [] if table is None else table.to_pylist()
        return {(row["video_id"], row["frame_index"]): row for row in rows}

    @property
    def kept(self) -> list[Frame]:
        return self._frames(FRAMES_FILE)

    @property
    def clustered(self) -> list[Frame]:
        return self._frames(CLUSTERS_FILE)

    def _frames(self, file: str) -> list[Frame]:
        rows = read_table(self.out / file, ["video_id", "frame_index"]).to_pylist()
        return [(row["video_id"], row["frame_index"]) for row in rows]


def others(count: int, size: tuple[int, int] = (90, 160)) -> list[Picture]:
    """Draw pictures that show something else than any ``scene`` of a seed below 10,000."""
    return [scene(10_000 + seed, size) for seed in range(count)]
