from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

from dataminer.files.hashing import sha256_file
from dataminer.frames.table import CLUSTERS_FILE, CLUSTERS_SCHEMA, write_table
from demo import clips as demo_clips
from demo.clips import CLIPS, FPS, HEIGHT, WIDTH, Clip, Scene, make_clips
from demo.score import Objects, Score, iou, match, score
from demo.shapes import CLASSES, COLOURS, Shape, draw, photographs

SMALL = (
    Clip("one", (Scene(0, 1), Scene(3, 1, "shared"), Scene(0, 1, "dark"))),
    Clip("two", (Scene(1, 1, "still"), Scene(3, 1, "shared")), crf=33),
    Clip("uneven", (Scene(9, 2),), variable_rate=True),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the small clips."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_clips, "CLIPS", SMALL)
        yield make_clips(tmp_path_factory.mktemp("demo") / "videos").parent


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="bgr24")) for f in container.decode(video=0)]


def truth_of(folder: Path) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return truth


@pytest.mark.parametrize("kind", CLASSES)
def test_the_box_lies_close_around_the_shape(kind: str) -> None:
    for angle in (-30, 0, 17):
        image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        box = draw(image, Shape(kind, 300.4, 180.6, 80, angle))
        rows, columns = np.nonzero((image != 120).any(axis=2))
        drawn = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(np.subtract(box, drawn)).max() <= 2.5


@pytest.mark.parametrize("clip", SMALL, ids=lambda clip: clip.name)
def test_every_frame_is_there_at_its_time(made: Path, clip: Clip) -> None:
    frames = truth_of(made)["clips"][f"{clip.name}.mp4"]["frames"]
    times = [time for time, _ in decoded(made / f"{clip.name}.mp4")]
    assert times == pytest.approx([frame["time"] for frame in frames], abs=0.0011)
    steps = set(np.round(np.diff(times), 3))
    assert (len(steps) > 1) == clip.variable_rate


def test_the_truth_is_what_is_in_the_pixels(made: Path) -> None:
    truth = truth_of(made)["clips"]
    for name, index in [("one.mp4", 0), ("one.mp4", 30), ("two.mp4", 40), ("uneven.mp4", 11)]:
        image = decoded(made / name)[index][1]
        objects = truth[name]["frames"][index]["objects"]
        assert len(objects) >= 2
        for item in objects:
            x1, y1, x2, y2 = item["bbox"]
            assert 0 <= x1 < x2 <= WIDTH
            assert 0 <= y1 < y2 <= HEIGHT
            colour = image[round((y1 + y2) / 2), round((x1 + x2) / 2)].astype(int)
            assert min(np.abs(np.subtract(colour, vivid)).max() for vivid in COLOURS) < 40


def test_kinds_of_scenes_look_as_they_should(made: Path) -> None:
    one, two = decoded(made / "one.mp4"), decoded(made / "two.mp4")
    assert one[60][1].mean() < 0.06 * 255 < 0.2 * 255 < one[5][1].mean()
    assert np.abs(np.subtract(two[0][1], two[20][1], dtype=int)).mean() < 3  # still
    assert np.abs(np.subtract(one[30][1], two[30][1], dtype=int)).mean() < 6  # shared
    assert np.abs(np.subtract(one[0][1], one[24][1], dtype=int)).mean() > 15  # neither


def test_the_same_script_draws_the_same_bytes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_clips, "CLIPS", SMALL)
    again = make_clips(tmp_path / "videos").parent
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert len(names) == len(SMALL) + 1
    assert all(sha256_file(made / name) == sha256_file(again / name) for name in names)


def test_the_real_clips_hold_what_the_demo_promises() -> None:
    kinds = [scene.kind for clip in CLIPS for scene in clip.scenes]
    assert {"dark", "blurred", "still", "normal"} <= set(kinds)
    assert kinds.count("shared") == 2
    assert any(clip.variable_rate for clip in CLIPS)
    clip = replace(CLIPS[0], scenes=CLIPS[0].scenes[:1])
    first = next(demo_clips.frames(clip, photographs()))
    assert first.image.shape == (HEIGHT, WIDTH, 3)
    assert FPS * sum(scene.seconds for clip in CLIPS for scene in clip.scenes) < 2000


class TestScore:
    def test_each_object_counts_once_and_needs_its_class(self) -> None:
        planted: Objects = [("disc", (0, 0, 10, 10)), ("box", (20, 0, 30, 10))]
        found: Objects = [
            ("disc", (0, 0, 10, 10)),
            ("disc", (0, 0, 10, 9)),
            ("disc", (20, 0, 30, 10)),
        ]
        assert match(planted, found) == 1
        assert match([], found) == 0
        assert match(planted, []) == 0

    def test_overlap(self) -> None:
        assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
        assert iou((0, 0, 10, 10), (10, 10, 20, 20)) == 0

    @pytest.mark.parametrize("merged", [True, False])
    def test_of_a_project(self, made: Path, tmp_path: Path, merged: bool) -> None:
        project = self.project(tmp_path, truth_of(made)["clips"], merged)
        result = score(project, made / "truth.json")
        objects = result.objects
        assert result == Score(3, objects, objects, 1, 2, 2 if merged else 1, 1)
        assert objects > 4
        assert not result.good  # a dark frame was kept
        assert f"{objects} of {objects} (100.0%), 1 false" in str(result)

    def project(self, tmp_path: Path, clips: dict[str, Any], merged: bool) -> Path:
        """Kept: a plain, a shared and a dark frame; of two shared ones, one or both."""
        folder = tmp_path / "store" / "projects" / "demo"
        self.info(folder, "v1", {"source": {"path": "/some/where/one.mp4"}})
        self.info(folder, "two-0123456789", {})
        kept = [("v1", 0), ("v1", 25), ("v1", 60)]
        images, annotations = [], []
        for number, (video_id, index) in enumerate(kept, start=1):
            images.append({"id": number, "video_id": video_id, "frame_index": index})
            for item in clips["one.mp4"]["frames"][index]["objects"]:
                annotations.append(self.annotation(number, item["class"], item["bbox"]))
        annotations.append(self.annotation(1, "disc", (0, 0, 1, 1)))
        categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
        dataset = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "detect").mkdir(parents=True)
        (folder / "detect" / "annotations.json").write_text(json.dumps(dataset))
        self.clusters(folder / "dedup", merged)
        return folder

    def info(self, folder: Path, video_id: str, content: dict[str, Any]) -> None:
        video = folder.parent.parent / "videos" / video_id
        video.mkdir(parents=True)
        (video / "info.json").write_text(json.dumps(content))

    def annotation(self, image: int, name: str, box: tuple[float, ...]) -> dict[str, Any]:
        x1, y1, x2, y2 = box
        bbox = [x1, y1, x2 - x1, y2 - y1]
        category = CLASSES.index(name) + 1
        return {"image_id": image, "category_id": category, "bbox": bbox, "score": 0.5}

    def clusters(self, folder: Path, merged: bool) -> None:
        two = "two-0123456789"
        stands = {
            ("v1", 0): ("v1", 0),
            ("v1", 25): ("v1", 25),
            ("v1", 60): ("v1", 60),
            (two, 25): ("v1", 25) if merged else (two, 25),
            (two, 0): (two, 0),
            (two, 20): (two, 0),
        }
        rows = [(*frame, *kept, 0, 0, 0, None, "hash") for frame, kept in stands.items()]
        folder.mkdir()
        columns = dict(zip(CLUSTERS_SCHEMA.names, zip(*rows, strict=True), strict=True))
        table = pa.table({name: list(values) for name, values in columns.items()})
        write_table(folder / CLUSTERS_FILE, table, CLUSTERS_SCHEMA, {})
