from __future__ import annotations

import gc
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dataminer.export.dataset import load_labelled
from dataminer.export.make import FORMATS, Options, export
from dataminer.export.splits import Shares
from dataminer.frames.boxes import LabelledImage
from tests.support.export_project import (
    NAMES,
    ODD_TEXTS,
    PROJECT,
    VIDEOS,
    known,
    label_with,
    make_project,
)
from tests.support.export_readers import READERS, Read, provenance, seen, supervision_coco
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.skipif(find_spec("ultralytics") is None, reason="no ultralytics"),
    # readers leave archives open
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
KILLED = """
import os, signal, sys
from pathlib import Path
from dataminer.export.dataset import load_labelled
from dataminer.export.make import export
from dataminer.store.layout import Store

def stop(done, total):
    if done == 8:
        os.kill(os.getpid(), signal.SIGKILL)

store, out = Store(Path(sys.argv[1])), Path(sys.argv[3])
export(load_labelled(store, sys.argv[2]), "coco", out, progress=stop)
"""
THREE = Options(Shares(val=0.3, test=0.3))


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Libraries that would ask their hub, or write into the user's home, do neither."""
    home = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        patch.setenv("YOLO_CONFIG_DIR", str(home))
        import datasets
        from huggingface_hub import constants

        # the libraries keep for good what the environment said when they were imported
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", home)
        # it would download a font for class names beyond ASCII
        patch.setattr("ultralytics.data.utils.check_font", lambda font: None)
        yield
    gc.collect()  # what readers left open shall not be found in somebody else's test


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[LabelledImage]]:
    root = tmp_path_factory.mktemp("export")
    store, images = make_project(root / "data")
    for kind in FORMATS:
        export(load_labelled(store, PROJECT), kind, root / "out", THREE)
    return root / "out", images


def expected(folder: Path, images: list[LabelledImage]) -> Read:
    from PIL import Image

    split = {path.name: path.parent.name for path in (folder / "coco").glob("*/*.jpg")}
    wanted = {}
    for image in images:
        boxes = [(NAMES[b.category], (b.x, b.y, b.width, b.height)) for b in image.boxes]
        source = folder.parent / "data" / "projects" / PROJECT / "detect" / "images"
        with Image.open(source / image.file_name) as picture:
            wanted[image.file_name] = seen(split[image.file_name], picture, boxes)
    return wanted


def test_every_format_is_read_by_a_reader_of_its_own() -> None:
    assert set(READERS.values()) == set(FORMATS)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_its_own_reader_gives_the_same_images_and_boxes(
    exported: tuple[Path, list[LabelledImage]], reader: Any
) -> None:
    folder, images = exported
    read, wanted = reader(folder / READERS[reader]), expected(folder, images)
    assert read == wanted
    of_split: dict[str, set[str]] = {}
    for image in images:
        of_split.setdefault(read[image.file_name].split, set()).add(image.video_id)
    assert set(of_split) == {"train", "val", "test"}
    assert sum(map(len, of_split.values())) == len(VIDEOS)


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """Exports with thousands of classes, and the names of the objects on each picture."""
    root = tmp_path_factory.mktemp("odd")
    store, _ = make_project(root / "data")
    names = label_with(store, [*ODD_TEXTS, *(f"class {number}" for number in range(3000))])
    for kind in FORMATS:
        export(load_labelled(store, PROJECT), kind, root / "out", THREE)
    return root / "out", names


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_its_own_reader_gives_the_same_names_whatever_they_are(
    oddly_named: tuple[Path, dict[str, list[str]]], reader: Any
) -> None:
    folder, wanted = oddly_named
    read = reader(folder / READERS[reader])
    assert {name: sorted(box[0] for box in each.boxes) for name, each in read.items()} == wanted
    assert set().union(*wanted.values()) > set(ODD_TEXTS)


def test_ultralytics_trains_with_every_label_of_thousands_of_classes(
    oddly_named: tuple[Path, dict[str, list[str]]], tmp_path: Path
) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    folder, wanted = oddly_named
    shutil.copytree(folder / "yolo", tmp_path / "yolo")  # it writes a cache
    data = check_det_dataset(tmp_path / "yolo" / "data.yaml", autodownload=False)
    read = {}
    for split in ("train", "val", "test"):
        for label in YOLODataset(img_path=data[split], data=data, task="detect").labels:
            classes = [int(number) for number in label["cls"].flat]
            read[Path(label["im_file"]).name] = sorted(data["names"][each] for each in classes)
    assert read == wanted
    assert len(data["names"]) == len(ODD_TEXTS) + 3000


def test_classes_of_one_name_stay_two(tmp_path: Path) -> None:
    names = ["disc", "é", "e\u0301", "disc", "", ""]
    store, _ = make_project(tmp_path / "data")
    wanted = label_with(store, names)
    for kind in FORMATS:
        export(load_labelled(store, PROJECT), kind, tmp_path / "out")
        about = json.loads((tmp_path / "out" / kind / "dataminer.json").read_text())
        assert about["classes"] == names
    for reader, kind in READERS.items():
        if reader is not supervision_coco:  # it refuses two classes of one name
            read = reader(tmp_path / "out" / kind)
            found = {name: sorted(box[0] for box in each.boxes) for name, each in read.items()}
            assert found == wanted
    coco = json.loads((tmp_path / "out/coco/annotations/instances_train.json").read_text())
    assert [(each["id"], each["name"]) for each in coco["categories"]] == [*enumerate(names, 1)]


@pytest.mark.parametrize("kind", FORMATS)
def test_says_of_every_frame_where_it_is_from(
    exported: tuple[Path, list[LabelledImage]], kind: str
) -> None:
    folder, images = exported
    reported = provenance(folder / kind, kind)
    assert set(reported) == {image.file_name for image in images}
    for image in images:
        row = reported[image.file_name]
        assert (row["video_id"], row["frame_index"]) == (image.video_id, image.frame_index)
        assert row["pts_time"] == pytest.approx(image.pts_time)
        for key in ("title", "uploader", "licence", "url"):
            assert row.get(key, "") == known(image.video_id).get(key, "")


def test_trains_one_epoch_as_it_is(
    exported: tuple[Path, list[LabelledImage]], tmp_path: Path
) -> None:
    folder, images = exported
    split_of = load_splits(folder / "yolo")
    before = {path: path.read_bytes() for path in (folder / "yolo").rglob("*.jpg")}
    command = [
        sys.executable,
        "-m",
        "tests.support.train_one_epoch",
        str(folder / "yolo/data.yaml"),
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    train, val = json.loads(ran.stdout.splitlines()[-1])
    for split, seen_names in (("train", train), ("val", val)):
        assert seen_names == sorted(i.file_name for i in images if split_of[i.video_id] == split)
    assert (tmp_path / "run" / "weights" / "last.pt").is_file()
    assert before == {path: path.read_bytes() for path in before}


def load_splits(folder: Path) -> dict[str, str]:
    about = json.loads((folder / "dataminer.json").read_text())
    return {video: split for split, videos in about["splits"].items() for video in videos}


def test_a_split_without_objects_still_loads(tmp_path: Path) -> None:
    """JSON cannot say of what an empty list is a list; the first of 400 frames has objects."""
    import datasets

    store, _ = make_project(tmp_path / "data", ["Zz-9", "train", "-dash_and_9"], frames=3)
    path = store.detect(PROJECT) / "annotations.json"
    coco = json.loads(path.read_text())
    bare = {image["id"] for image in coco["images"] if image["video_id"] != "train"}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] not in bare]
    path.write_text(json.dumps(coco))
    for kind in ("imagefolder", "webdataset"):
        made = export(load_labelled(store, PROJECT), kind, tmp_path, Options(Shares(val=0.3)))
        assert made.objects == {"train": 4, "val": 0}
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "imagefolder"))
    boxes = {split: sum(len(row["objects"]["bbox"]) for row in loaded[split]) for split in loaded}
    assert boxes == {"train": 4, "validation": 0}


def test_many_frames_without_objects_still_load(tmp_path: Path) -> None:
    """The types of a JSON file's lists are taken from its first block; here it has several."""
    import datasets

    store, _ = make_project(tmp_path / "data", ["Zz-9"], frames=2)
    dataset = load_labelled(store, PROJECT)
    with_objects, bare = dataset.images
    many = (*(replace(bare, frame_index=n + 1) for n in range(500)), with_objects)
    dataset = replace(dataset, images=many, videos={"Zz-9": {"title": "long " * 300}})
    export(dataset, "imagefolder", tmp_path)
    assert (tmp_path / "imagefolder/train/metadata.jsonl").stat().st_size > 2 * (10 << 20) // 32
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "imagefolder"))
    assert len(loaded["train"]) == 501
    assert sum(map(len, (row["bbox"] for row in loaded["train"]["objects"]))) == 2


def test_what_a_killed_export_left_is_hidden_and_cleared(tmp_path: Path) -> None:
    store, _ = make_project(tmp_path / "data")
    out = tmp_path / "out"
    ran = subprocess.run([sys.executable, "-c", KILLED, store.root, PROJECT, out], cwd=ROOT)
    assert ran.returncode == -signal.SIGKILL
    (left,) = out.iterdir()
    assert left.name.startswith(".coco.")
    assert len(list(left.rglob("*.jpg"))) == 7
    export(load_labelled(store, PROJECT), "coco", out)
    assert [path.name for path in out.iterdir()] == ["coco"]
