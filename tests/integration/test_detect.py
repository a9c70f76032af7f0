from __future__ import annotations

import contextlib
import filecmp
import io
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dataminer.config.models import DetectConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.files.hashing import sha256_file
from dataminer.frames.boxes import Box
from dataminer.frames.images import FrameReader, FrameWriter
from dataminer.frames.table import FRAMES_FILE, read_table
from dataminer.stages.detect import shards
from dataminer.stages.detect.stage import DetectResult, detect
from dataminer.vision.detectors import distinct
from demo.score import match
from demo.shapes import CLASSES
from tests.support.detect_frames import FRAMES, Objects, row, write_rows

pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="no ultralytics")

SETTINGS = DetectConfig(model="shapes.pt", image_size=320, confidence=0.3, batch=4)
Run = Callable[..., tuple[DetectResult, Path]]


@pytest.fixture
def run(tmp_path: Path, shapes_weights: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(dedup_dir: Path, name: str = "detect", **options: Any) -> tuple[DetectResult, Path]:
        out = tmp_path / name
        out.mkdir()
        settings = options.pop("settings", SETTINGS)
        weights = options.pop("weights", shapes_weights)
        plan = shards.divide_into_shards(dedup_dir, tmp_path / f"{name}_shards", weights, settings)
        result = detect(plan, out, **options)
        assert capfd.readouterr().out == ""
        return result, out

    return call


def found(out: Path) -> Objects:
    """What annotations.json has, by file name."""
    dataset = json.loads((out / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in dataset["categories"]}
    files = {image["id"]: image["file_name"] for image in dataset["images"]}
    objects: Objects = {name: [] for name in files.values()}
    for item in dataset["annotations"]:
        x, y, width, height = item["bbox"]
        corners = (x, y, x + width, y + height)
        objects[files[item["image_id"]]].append((names[item["category_id"]], corners))
    return objects


def test_finds_what_was_drawn(run: Run, drawn: tuple[Path, Objects], shapes_weights: Path) -> None:
    folder, truth = drawn
    reported: list[str] = []
    videos = {"a": {"title": "First", "url": "https://x.test/a", "licence": "CC0"}}
    result, out = run(folder, meta={"project": "p"}, videos=videos, progress=reported.append)
    objects = found(out)
    planted = sum(map(len, truth.values()))
    hits = sum(match(truth[name], objects[name]) for name in truth)
    assert hits / planted >= 0.9
    assert result.annotations - hits <= planted * 0.1
    assert result.images == len(FRAMES)
    assert result.annotations == sum(result.per_class.values()) == sum(map(len, objects.values()))
    assert set(result.per_class) == set(CLASSES)
    assert reported[-1] == "detect: 13 of 13 frames"

    dataset = json.loads((out / "annotations.json").read_text())
    assert dataset["info"]["project"] == "p"
    assert dataset["info"]["model"] == shapes_weights.name
    assert dataset["info"]["model_sha256"] == sha256_file(shapes_weights)
    assert dataset["images"][1]["title"] == "First"
    assert dataset["images"][1]["pts_time"] == 0.4
    assert "title" not in dataset["images"][-1]


def test_map50_by_the_exported_coco(run: Run, drawn: tuple[Path, Objects], tmp_path: Path) -> None:
    """Pictures that the detector was not trained on, scored by COCO's own program."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder, truth = drawn
    _, out = run(folder, settings=SETTINGS.model_copy(update={"confidence": 0.01}))
    exported = json.loads((out / "annotations.json").read_text())
    ids = {image["file_name"]: image["id"] for image in exported["images"]}
    classes = {category["name"]: category["id"] for category in exported["categories"]}
    planted = [(ids[name], kind, box) for name in truth for kind, box in truth[name]]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": classes[kind],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        for number, (image, kind, (x1, y1, x2, y2)) in enumerate(planted, start=1)
    ]
    (tmp_path / "truth.json").write_text(json.dumps({**exported, "annotations": annotations}))
    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO(tmp_path / "truth.json").loadRes(exported["annotations"])
        scored = COCOeval(COCO(tmp_path / "truth.json"), ours, "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    assert scored.stats[1] >= 0.9  # AP at an overlap of 0.5


def test_links_images_and_writes_a_label_file_for_each(
    run: Run, drawn: tuple[Path, Objects]
) -> None:
    folder, truth = drawn
    _, out = run(folder)
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(truth)
    assert all((out / "images" / name).samefile(folder / name) for name in truth)
    assert sorted(path.stem for path in (out / "labels").iterdir()) == sorted(
        Path(name).stem for name in truth
    )
    for name, objects in found(out).items():
        label = (out / "labels" / name).with_suffix(".txt").read_text()
        assert label.count("\n") == len(objects)


def test_frames_in_an_archive_give_the_same_dataset(
    run: Run, drawn: tuple[Path, Objects], tmp_path: Path
) -> None:
    folder, _ = drawn
    archived = tmp_path / "archived"
    archived.mkdir()
    with FrameReader(folder) as reader, FrameWriter(archived, "tar") as writer:
        locations = {name: writer.copy_from(reader, name)._asdict() for name in reader.names}
    table = read_table(folder / FRAMES_FILE).to_pylist()
    write_rows(archived, [each | locations[each["file_name"]] for each in table], writer.meta)
    _, from_files = run(folder, "files")
    _, from_archive = run(archived, "tar")
    files = [str(path.relative_to(from_files)) for path in from_files.rglob("*") if path.is_file()]
    assert len(files) == 2 + 2 * len(FRAMES)
    assert filecmp.cmpfiles(from_files, from_archive, files, shallow=False) == (files, [], [])


def test_other_tools_read_it(
    run: Run, drawn: tuple[Path, Objects], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pycocotools.coco import COCO
    from ultralytics.data.utils import check_det_dataset, img2label_paths

    _, out = run(drawn[0])
    moved = Path(shutil.move(out, tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    for spelled in (moved / "data.yaml", Path("elsewhere/data.yaml")):
        data = check_det_dataset(spelled, autodownload=False)
        assert Path(data["train"]) == Path(data["val"]) == moved / "images"
        assert data["names"] == dict(enumerate(CLASSES))
    labels = img2label_paths([str(path) for path in (moved / "images").iterdir()])
    assert all(Path(label).is_file() for label in labels)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(moved / "annotations.json")
    assert len(coco.getImgIds()) == len(FRAMES)


def test_the_same_input_gives_the_same_bytes(run: Run, drawn: tuple[Path, Objects]) -> None:
    _, first = run(drawn[0], "first")
    _, second = run(drawn[0], "second")
    files = [str(path.relative_to(first)) for path in first.rglob("*") if path.is_file()]
    assert len(files) == 2 + 2 * len(FRAMES)
    assert filecmp.cmpfiles(first, second, files, shallow=False) == (files, [], [])


def test_nothing_to_look_at(run: Run, tmp_path: Path) -> None:
    from ultralytics.data.utils import check_det_dataset

    (tmp_path / "dedup").mkdir()
    write_rows(tmp_path / "dedup", [])
    result, out = run(tmp_path / "dedup")
    assert result == DetectResult(0, 0, dict.fromkeys(CLASSES, 0))
    dataset = json.loads((out / "annotations.json").read_text())
    assert dataset["images"] == dataset["annotations"] == []
    assert len(dataset["categories"]) == 3
    assert check_det_dataset(out / "data.yaml", autodownload=False)["nc"] == 3
    assert list((out / "labels").iterdir()) == list((out / "images").iterdir()) == []


class TestErrors:
    @pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 truncated"])
    def test_unreadable_weights(
        self, run: Run, drawn: tuple[Path, Objects], tmp_path: Path, content: bytes
    ) -> None:
        weights = tmp_path / "bad.pt"
        weights.write_bytes(content)
        with pytest.raises(PermanentError, match=r"cannot load the weights .*bad\.pt") as caught:
            run(drawn[0], weights=weights)
        assert caught.value.error_class is ErrorClass.MODEL
        assert "\n" not in str(caught.value)

    def test_weights_that_carry_code_do_not_run_it(
        self, run: Run, drawn: tuple[Path, Objects], tmp_path: Path
    ) -> None:
        import torch

        class Payload:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "ran",)

        torch.save({"model": Payload()}, tmp_path / "evil.pt")
        with pytest.raises(PermanentError, match="cannot load the weights"):
            run(drawn[0], weights=tmp_path / "evil.pt")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("name", ["none.pt", "yolo26n.pt"])
    def test_missing_weights(
        self, run: Run, drawn: tuple[Path, Objects], tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(PermanentError, match=f"no weights file .*{name}") as caught:
            run(drawn[0], weights=tmp_path / name)
        assert caught.value.error_class is ErrorClass.MODEL

    def test_a_file_of_another_kind(self, run: Run, drawn: tuple[Path, Objects]) -> None:
        with pytest.raises(PermanentError, match=r"not a \.pt"):
            run(drawn[0], weights=Path(__file__))

    def test_no_table(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "dedup").mkdir()
        with pytest.raises(PermanentError, match=r"frames\.parquet"):
            run(tmp_path / "dedup")

    @pytest.mark.parametrize("spoil", ["remove", "overwrite"])
    def test_a_frame_that_cannot_be_read(self, run: Run, tmp_path: Path, spoil: str) -> None:
        folder = tmp_path / "dedup"
        folder.mkdir()
        frames = [("a", index, 64, 64) for index in range(3)]
        rows = [row(f"a_{index:06d}.jpg", frame) for index, frame in enumerate(frames)]
        for each in rows:
            cv2.imwrite(str(folder / each["file_name"]), np.zeros((64, 64, 3), np.uint8))
        write_rows(folder, rows)
        if spoil == "remove":
            (folder / "a_000001.jpg").unlink()
        else:
            (folder / "a_000001.jpg").write_bytes(b"no picture")
        with pytest.raises(PermanentError, match=r"a_000001\.jpg"):
            run(folder)

    def test_a_device_that_is_not_there(self, run: Run, drawn: tuple[Path, Objects]) -> None:
        absent = SETTINGS.model_copy(update={"device": "cuda:63"})
        with pytest.raises(TransientError, match="cuda:63") as caught:
            run(drawn[0], settings=absent)
        assert caught.value.error_class is ErrorClass.MISSING_TOOL


def test_an_object_is_named_once() -> None:
    sure, again = Box(0, 10, 10, 50, 50, 0.9), Box(0, 11, 10, 50, 51, 0.5)
    other_class, beside = Box(1, 10, 10, 50, 50, 0.4), Box(0, 40, 10, 50, 50, 0.3)
    assert distinct([beside, again, other_class, sure]) == (sure, other_class, beside)
