from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from dataminer.formats.coco import coco_dataset, write_coco
from dataminer.formats.contact_sheet import contact_sheet, spread
from dataminer.formats.yolo import label_lines, write_data_yaml, write_labels
from dataminer.frames.boxes import Box, LabelledImage

NAMES = ["disc", "box"]


def image(video_id: str, index: int, *boxes: Box, time: float = 0.0) -> LabelledImage:
    return LabelledImage(
        f"{video_id}_{index:06d}.jpg", 200, 100, video_id, index, time, tuple(boxes)
    )


def box(corners: tuple[float, ...] = (10, 20, 50, 80), score: float = 0.5, kind: int = 0) -> Box:
    made = Box.from_corners(corners, score, kind, (200, 100))
    assert made is not None
    return made


class TestBox:
    def test_keeps_what_lies_within_the_picture(self) -> None:
        assert box((-5.0, 10.126, 210.0, 99.999)) == Box(0, 0.0, 10.13, 200, 89.87, 0.5)

    @pytest.mark.parametrize("corners", [(210, 10, 220, 20), (10, 10, 10.001, 20), (5, 9, 5, 9)])
    def test_is_none_where_nothing_is_left(self, corners: tuple[float, ...]) -> None:
        assert Box.from_corners(corners, 0.5, 0, (200, 100)) is None

    def test_overlap(self) -> None:
        assert box().iou(box()) == 1.0
        assert box((0, 0, 10, 10)).iou(box((20, 20, 30, 30))) == 0.0
        assert box((0, 0, 10, 10)).iou(box((0, 5, 10, 15))) == pytest.approx(1 / 3)


class TestDataset:
    def test_numbers_images_by_video_and_frame_and_boxes_by_score(self) -> None:
        images = [
            image("b", 1, box(score=0.4), box(score=0.9, kind=1)),
            image("a", 7),
            image("a", 2),
        ]
        made = coco_dataset(images, NAMES)
        assert [i["file_name"] for i in made["images"]] == [
            "a_000002.jpg",
            "a_000007.jpg",
            "b_000001.jpg",
        ]
        assert [i["id"] for i in made["images"]] == [1, 2, 3]
        assert [
            (a["id"], a["image_id"], a["category_id"], a["score"]) for a in made["annotations"]
        ] == [
            (1, 3, 2, 0.9),
            (2, 3, 1, 0.4),
        ]
        assert made["annotations"][0]["bbox"] == [10, 20, 40, 60]
        assert made["annotations"][0]["area"] == 2400
        assert [(c["id"], c["name"]) for c in made["categories"]] == [(1, "disc"), (2, "box")]

    def test_says_where_images_come_from(self) -> None:
        videos: dict[str, dict[str, Any]] = {
            "a": {"title": 'A "title" \u2028 \ud800', "license": "CC BY", "uploader": None},
            "b": {"title": "B", "licence": "CC0", "url": "https://x.test/b", "secret": "no"},
        }
        made = coco_dataset([image("a", 1, time=1.5), image("b", 1)], NAMES, videos=videos)
        first, second = made["images"]
        assert first["title"] == videos["a"]["title"]
        assert (first["licence"], first["license"]) == ("CC BY", 1)
        assert "uploader" not in first
        assert (second["url"], second["license"]) == ("https://x.test/b", 2)
        assert "secret" not in second
        assert made["licenses"] == [
            {"id": 1, "name": "CC BY", "url": ""},
            {"id": 2, "name": "CC0", "url": ""},
        ]

    def test_asks_only_for_videos_that_it_has_and_each_once(self) -> None:
        requested: list[str] = []

        class Videos(Mapping[str, Mapping[str, Any]]):
            def __getitem__(self, key: str) -> Mapping[str, Any]:
                requested.append(key)
                raise KeyError(key)

            def __iter__(self) -> Iterator[str]:
                raise AssertionError("a store may hold many other videos")

            def __len__(self) -> int:
                return 3

        coco_dataset([image("b", 1), image("a", 1), image("a", 2)], NAMES, videos=Videos())
        assert requested == ["a", "b"]

    def test_pycocotools_reads_it(self, tmp_path: Path) -> None:
        from pycocotools.coco import COCO

        path = tmp_path / "annotations.json"
        write_coco(path, coco_dataset([image("a", 1, box()), image("a", 2)], NAMES, info={"k": 1}))
        with redirect_stdout(io.StringIO()):
            coco = COCO(path)
        assert coco.getImgIds() == [1, 2]
        assert coco.getAnnIds(imgIds=[2]) == []
        assert coco.loadAnns(coco.getAnnIds(imgIds=[1]))[0]["bbox"] == [10, 20, 40, 60]

    def test_is_json_with_a_record_a_line(self, tmp_path: Path) -> None:
        dataset = coco_dataset([image("a", 1, box()), image("a", 2)], NAMES)
        write_coco(tmp_path / "a.json", dataset)
        text = (tmp_path / "a.json").read_text()
        assert json.loads(text) == dataset
        assert sum(line.startswith('{"id": ') for line in text.splitlines()) == 5

    def test_of_nothing(self, tmp_path: Path) -> None:
        write_coco(tmp_path / "a.json", coco_dataset([], []))
        assert json.loads((tmp_path / "a.json").read_text()) == {
            "info": {},
            "licenses": [],
            "images": [],
            "annotations": [],
            "categories": [],
        }


class TestYolo:
    def test_lines_are_normalised_and_the_surest_first(self) -> None:
        boxes = box((0, 0, 20, 50), score=0.3), box((100, 0, 200, 100), score=0.8, kind=1)
        assert label_lines(image("a", 1, *boxes)) == (
            "1 0.750000 0.500000 0.500000 1.000000\n0 0.050000 0.250000 0.100000 0.500000\n"
        )

    def test_an_image_without_objects_has_an_empty_file(self, tmp_path: Path) -> None:
        write_labels(tmp_path / "labels", [image("a", 1), image("a", 2, box())])
        assert (tmp_path / "labels" / "a_000001.txt").read_bytes() == b""
        assert (tmp_path / "labels" / "a_000002.txt").read_text().count("\n") == 1

    @pytest.mark.parametrize(
        "names", [[], ["disc"], ["yes", "a: b", "# c", 'd"e', "\u72ac", "null"]]
    )
    def test_names_survive_yaml(self, tmp_path: Path, names: list[str]) -> None:
        write_data_yaml(tmp_path / "data.yaml", names)
        data = yaml.safe_load((tmp_path / "data.yaml").read_text(encoding="utf-8"))
        assert data == {"train": "images", "val": "images", "names": dict(enumerate(names))}


class TestContactSheet:
    @pytest.mark.parametrize(("count", "most"), [(0, 5), (5, 5), (6, 5), (1000, 48), (7, 1)])
    def test_spreads_evenly(self, count: int, most: int) -> None:
        taken = spread(range(count), most)
        assert len(taken) == min(count, most)
        assert taken == sorted(set(taken))
        if count > most > 1:
            assert (taken[0], taken[-1]) == (0, count - 1)

    @pytest.mark.parametrize("count", [0, 1, 9])
    def test_draws_a_page(self, tmp_path: Path, count: int) -> None:
        (tmp_path / "images").mkdir()
        images = [image("a", index, box(), time=61.5) for index in range(count)]
        for made in images:
            Image.new("RGB", (made.width, made.height), "gray").save(
                tmp_path / "images" / made.file_name
            )
        videos = {"a": {"title": "A title that is much too long to stand under one small picture"}}
        write_coco(tmp_path / "annotations.json", coco_dataset(images, NAMES, videos=videos))
        assert contact_sheet(tmp_path, tmp_path / "sheet.png", most=7) == min(count, 7)
        with Image.open(tmp_path / "sheet.png") as page:
            assert page.width > 1000
            assert page.getpixel((0, 0)) == (255, 255, 255)
