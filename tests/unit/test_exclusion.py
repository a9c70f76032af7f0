"""Frames near a reference picture, or near its mirror image, are left out; all others stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data

from dataminer.config.models import DedupConfig
from dataminer.errors import DataminerError
from dataminer.export.dataset import load_labelled
from dataminer.export.make import FORMATS, Options, export
from dataminer.export.splits import Shares
from dataminer.frames.image_decoding import decode_image
from dataminer.frames.table import CLUSTERS_FILE, read_meta, read_table
from dataminer.provenance import fingerprints
from dataminer.stages.dedup.references import pictures as pictures_module
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.stages.dedup.references.pictures import read_pictures
from tests.support.drawn_scenes import Picture, scene, with_noise, with_object
from tests.support.export_project import PROJECT, make_project
from tests.support.references import (
    COPIES,
    Mined,
    altered,
    others,
    write_archive,
    write_coco,
    write_image,
)


@pytest.fixture
def mined(tmp_path: Path) -> Mined:
    return Mined(tmp_path)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with the scenes 0 and 1."""
    for seed in (0, 1):
        write_image(tmp_path / "bench" / f"{seed}.png", scene(seed))
    return tmp_path / "bench"


# ---- what is left out ----------------------------------------------------------------------------


def photographs() -> list[Picture]:
    names = ("astronaut", "chelsea", "coffee", "rocket")
    return [np.ascontiguousarray(getattr(skimage.data, name)()[:, :, ::-1]) for name in names]


def parts(picture: Picture, count: int) -> list[Picture]:
    rng = np.random.default_rng(0)
    height, width = picture.shape[:2]
    found = []
    for _ in range(count):
        share = rng.uniform(0.25, 0.5)
        top, left = (int(rng.uniform(0, side * (1 - share))) for side in (height, width))
        below, right = top + int(height * share), left + int(width * share)
        found.append(np.ascontiguousarray(picture[top:below, left:right]))
    return found


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, and a thousand frames besides copies of these."""
    root, photos = tmp_path_factory.mktemp("planted"), photographs()
    for number, photo in enumerate(photos):
        write_image(root / "bench" / f"{number}.jpg", photo)
    made = Mined(root)
    made.video("a", [altered(photo, how) for photo in photos for how in COPIES])
    made.video("b", [part for photo in photos for part in parts(photo, 100)] + others(600))
    return root


@pytest.mark.parametrize("min_object", [DedupConfig().min_object, 0])
@pytest.mark.parametrize("kind", ["phash", "dhash", "both"])
def test_copies_are_left_out_and_a_thousand_others_stay(
    mined: Mined, planted: Path, min_object: float, kind: str
) -> None:
    for name in ("bench", "filtered"):
        (mined.root / name).symlink_to(planted / name)
    mined.dedup(mined.root / "bench", min_object=min_object, hash=kind)
    copies = len(list((planted / "bench").iterdir())) * len(COPIES)
    assert sorted(mined.excluded) == [("a", index) for index in range(copies)]
    assert mined.clustered == [("b", index) for index in range(1000)]
    for (_, index), row in mined.excluded.items():
        photo, how = divmod(index, len(COPIES))
        assert row["reference"] == f"{photo}.jpg"
        assert row["mirrored"] is (COPIES[how] in ("flipped", "all"))
        assert row["distance"] <= 8
        assert (row["changed"] is None) is not bool(min_object)


def test_what_is_left_out_is_neither_kept_nor_represents_others(mined: Mined, bench: Path) -> None:
    mined.video("a", [scene(0), with_noise(scene(0)), scene(2), with_noise(scene(2))])
    result = mined.dedup(bench)
    assert set(mined.excluded) == {("a", 0), ("a", 1)}
    assert len(mined.kept) == result.unique == 1
    assert mined.clustered == [("a", 2), ("a", 3)]
    images = {path.name for path in mined.out.iterdir() if path.suffix == ".jpg"}
    assert images == {f"a_{mined.kept[0][1]:06d}.jpg"}
    for meta in (mined.meta, read_meta(mined.out / CLUSTERS_FILE)):
        assert (meta["excluded"], meta["reference_pictures"]) == (2, 2)
        assert meta["exclude"] == [str(bench)]


def test_another_moment_of_a_still_camera_stays(mined: Mined, bench: Path) -> None:
    mined.video("a", [with_object(scene(0), 0.05), scene(3)])
    mined.dedup(bench)
    assert mined.excluded == {}
    assert len(mined.kept) == 2
    mined.dedup(bench, min_object=0.2)
    assert set(mined.excluded) == {("a", 0)}
    assert 0.012 < mined.excluded["a", 0]["changed"] <= 0.2


@pytest.mark.parametrize("min_object", [0, 1])
def test_the_nearest_hash_is_named(mined: Mined, tmp_path: Path, min_object: float) -> None:
    stripes = [((0.1 + 0.2 * number, 0.5), 0.03 + 0.02 * number) for number in range(5)]
    pictures = [with_object(scene(0), share, position) for position, share in stripes]
    for number, picture in enumerate(pictures):
        write_image(tmp_path / "bench" / f"{number}.png", picture)
    mined.video("a", pictures)
    mined.dedup(tmp_path / "bench", min_object=min_object, threshold=32)
    named = {index: row["reference"] for (_, index), row in mined.excluded.items()}
    assert named == {number: f"{number}.png" for number in range(5)}
    assert {row["distance"] for row in mined.excluded.values()} == {0}


def test_the_nearest_of_several_pictures_is_named(mined: Mined, tmp_path: Path) -> None:
    pictures = [with_object(scene(0), 0.03, where) for where in ((0.2, 0.2), (0.8, 0.8))]
    for number, picture in enumerate((*pictures, scene(0))):
        write_image(tmp_path / "bench" / f"{number}.png", picture)
    mined.video("a", [scene(0), pictures[1], altered(pictures[0], "flipped")])
    mined.dedup(tmp_path / "bench")
    named = {key: (row["reference"], row["mirrored"]) for key, row in mined.excluded.items()}
    assert named == {
        ("a", 0): ("2.png", False),
        ("a", 1): ("1.png", False),
        ("a", 2): ("0.png", True),
    }


def test_all_frames_may_be_left_out(mined: Mined, bench: Path) -> None:
    mined.video("a", [scene(0)])
    result = mined.dedup(bench)
    assert (result.frames, result.unique, mined.kept) == (0, 0, [])


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (300, 300), (120, 160)])
def test_mirror_images_are_found_of_upright_and_noisy_pictures(
    mined: Mined, tmp_path: Path, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.normal(picture, 12) for picture in (scene(seed, size) for seed in range(10))]
    pictures = [np.clip(picture, 0, 255).astype(np.uint8) for picture in noisy]
    for number, picture in enumerate(pictures):
        write_image(tmp_path / "bench" / f"{number}.png", picture)
    mined.video("a", [altered(picture, "flipped") for picture in pictures])
    mined.dedup(tmp_path / "bench")
    assert len(mined.excluded) == len(pictures)
    assert all(row["mirrored"] for row in mined.excluded.values())


# ---- what may be named ---------------------------------------------------------------------------


def in_folder(root: Path, picture: Picture) -> Path:
    write_image(root / "deep" / "er" / "X.JPG", picture)
    (root / "notes.txt").write_text("no image")
    return root


def in_coco(root: Path, picture: Picture) -> Path:
    write_image(root / "x.jpg", picture)
    return write_coco(root / "coco.json", ["x.jpg"])


def in_coco_with_images(root: Path, picture: Picture) -> Path:
    write_image(root / "images" / "sub" / "x.jpg", picture)
    return write_coco(root / "annotations.json", ["sub\\x.jpg"])


def in_coco_of_coco(root: Path, picture: Picture) -> Path:
    write_image(root / "val2017" / "x.jpg", picture)
    return write_coco(root / "annotations" / "instances_val2017.json", ["x.jpg"])


def in_yolo(root: Path, picture: Picture) -> Path:
    write_image(root / "images" / "val" / "x.jpg", picture)
    (root / "data.yaml").write_text("train: images/val\nval: images/val\nnames: {}\n")
    return root / "data.yaml"


def in_yolo_elsewhere(root: Path, picture: Picture) -> Path:
    write_image(root / "set" / "pictures" / "x.jpg", picture)
    (root / "set" / "list.txt").write_text("./pictures/x.jpg\n\n")
    (root / "data.yml").write_text("path: set\ntest: [list.txt]\nval: ../pictures\n")
    return root / "data.yml"


def in_archive(root: Path, picture: Picture) -> Path:
    return write_archive(root / "test-000000.tar", {"000000000.jpg": picture, "a.txt": picture})


def in_folder_of_archives(root: Path, picture: Picture) -> Path:
    in_archive(root, picture)
    return root


def in_image(root: Path, picture: Picture) -> Path:
    return write_image(root / "x.png", picture)


KINDS: list[Callable[[Path, Picture], Path]] = [
    in_folder,
    in_coco,
    in_coco_with_images,
    in_coco_of_coco,
    in_yolo,
    in_yolo_elsewhere,
    in_archive,
    in_folder_of_archives,
    in_image,
]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_reference_is_read(
    mined: Mined, tmp_path: Path, kind: Callable[[Path, Picture], Path]
) -> None:
    (tmp_path / "bench").mkdir()
    given = kind(tmp_path / "bench", scene(0))
    mined.video("a", [altered(scene(0), "all"), scene(1)])
    mined.dedup(given)
    assert set(mined.excluded) == {("a", 0)}
    assert mined.meta["reference_pictures"] == 1
    assert mined.excluded["a", 0]["excluded_by"] == str(given)


@pytest.mark.parametrize("frame_store", ["files", "tar"])
def test_each_kind_of_export_is_a_reference(mined: Mined, tmp_path: Path, frame_store: str) -> None:
    store, images = make_project(tmp_path / "data", frame_store=frame_store)
    dataset, folders = load_labelled(store, PROJECT), list[Path]()
    out = tmp_path / "exports"
    for kind in FORMATS:
        export(dataset, kind, out, Options(Shares(0.25, 0.25)))
        folders.append(out / kind)
    annotations = sorted((out / "coco" / "annotations").iterdir())
    files = [out / "yolo" / "data.yaml", store.detect(PROJECT) / "annotations.json"]
    assert len(annotations) == 3, "one for each split"
    for given in ([folder] for folder in (*folders, store.dedup(PROJECT), *files)):
        assert count_pictures(mined, given) == len(images), given
    assert count_pictures(mined, annotations) == len(images)
    pictures = [cv2.imread(str(file)) for file in sorted((store.detect(PROJECT)).rglob("*.jpg"))]
    mined.video("a", [altered(np.asarray(picture, np.uint8), "flipped") for picture in pictures])
    mined.dedup(out / "webdataset")
    assert len(mined.excluded) == len(images)


def count_pictures(mined: Mined, exclude: list[Path]) -> int:
    references = ReferencePictures.of(DedupConfig(exclude=[str(path) for path in exclude]))
    assert references
    cache = mined.root / "cache"
    return sum(len(read_pictures(source, cache, print)) for source in references.sources)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp", "bmp", "tif", "TIFF"])
def test_each_format_of_images_is_read(mined: Mined, tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / "bench" / f"x.{suffix}", scene(0))
    mined.video("a", [scene(0), scene(1)])
    mined.dedup(tmp_path / "bench")
    assert set(mined.excluded) == {("a", 0)}


def test_links_are_followed_and_hidden_names_are_not(tmp_path: Path) -> None:
    write_image(tmp_path / "real" / "x.jpg", scene(0))
    for hidden in (".x.jpg", ".git/x.jpg", "._x.jpg"):
        write_image(tmp_path / "bench" / hidden, scene(1))
    (tmp_path / "bench" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "bench" / "loop").symlink_to(tmp_path / "bench")
    references = ReferencePictures.of(DedupConfig(exclude=[str(tmp_path / "bench")]))
    assert references
    assert [file.name for file in references.sources[0].files] == ["link/x.jpg"]


# ---- errors --------------------------------------------------------------------------------------


def nothing(root: Path) -> Path:
    return root / "absent"


def empty_folder(root: Path) -> Path:
    (root / "notes.txt").touch()
    return root


def lacking_coco(root: Path) -> Path:
    write_image(root / "x.jpg", scene(0))
    return write_coco(root / "coco.json", ["x.jpg", "y.jpg"])


def no_coco(root: Path) -> Path:
    (root / "other.json").write_text('{"shapes": []}')
    return root / "other.json"


def empty_coco(root: Path) -> Path:
    return write_coco(root / "coco.json", [])


def lacking_yolo(root: Path) -> Path:
    (root / "data.yaml").write_text("train: images/train\n")
    return root / "data.yaml"


def no_yolo(root: Path) -> Path:
    (root / "data.yaml").write_text("- [")
    return root / "data.yaml"


def other_file(root: Path) -> Path:
    (root / "notes.txt").touch()
    return root / "notes.txt"


def broken_link(root: Path) -> Path:
    (root / "x.jpg").symlink_to(root / "gone.jpg")
    return root


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (nothing, "does not exist"),
        (empty_folder, "has no image"),
        (lacking_coco, r"names 2 images, of which 1 are missing: y\.jpg"),
        (no_coco, "cannot be read as a COCO file"),
        (empty_coco, "has no image"),
        (lacking_yolo, "names images/train, which is missing"),
        (no_yolo, "cannot be read as YOLO's data.yaml"),
        (other_file, "is no list of pictures"),
        (broken_link, r"x\.jpg, which is missing"),
    ],
)
def test_an_error_names_the_setting_the_entry_and_the_next_step(
    tmp_path: Path, kind: Callable[[Path], Path], reason: str
) -> None:
    given = str(kind(tmp_path))
    with pytest.raises(DataminerError, match=reason) as caught:
        ReferencePictures.of(DedupConfig(exclude=[given]))
    assert caught.value.message.startswith(f"dedup.exclude: {given} ")
    assert caught.value.hint


def test_a_project_is_no_reference_for_itself(tmp_path: Path) -> None:
    own = tmp_path / "data" / "projects" / "p"
    write_image(own / "dedup" / "x.jpg", scene(0))
    write_image(tmp_path / "data" / "projects" / "q" / "dedup" / "x.jpg", scene(0))
    for given in (own, own / "dedup", tmp_path / "data"):
        with pytest.raises(DataminerError, match="results of project p itself"):
            ReferencePictures.of(DedupConfig(exclude=[str(given)]), own)
    assert ReferencePictures.of(DedupConfig(exclude=[str(own.parent / "q")]), own)


def truncated(path: Path) -> None:
    data = write_image(path, scene(0)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"no image")


def no_bytes(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("spoil", [truncated, garbage, no_bytes])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_picture_that_cannot_be_decoded_is_reported_and_the_rest_counts(
    mined: Mined,
    bench: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    suffix: str,
) -> None:
    spoil(bench / f"bad.{suffix}")
    mined.video("a", [scene(0), scene(2)])
    mined.dedup(bench)
    assert set(mined.excluded) == {("a", 0)}
    assert (mined.meta["reference_pictures"], mined.meta["unreadable_references"]) == (2, 1)
    assert f"1 of 3 pictures cannot be decoded and are not compared, such as bad.{suffix}" in (
        caplog.text
    )


def test_a_damaged_archive_is_reported(mined: Mined, bench: Path) -> None:
    archive = write_archive(bench / "x.tar", {f"{n}.jpg": scene(n) for n in (5, 6, 7)})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    mined.video("a", [scene(5), scene(2)])
    mined.dedup(bench)
    assert set(mined.excluded) == {("a", 0)}
    assert mined.excluded["a", 0]["member"] == "5.jpg"
    assert mined.meta["unreadable_references"] == 1


def test_pictures_of_which_none_can_be_decoded_are_an_error(mined: Mined, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    garbage(tmp_path / "bench" / "x.jpg")
    mined.video("a", [scene(0)])
    with pytest.raises(DataminerError, match=r"dedup\.exclude.*no image that can be decoded"):
        mined.dedup(tmp_path / "bench")


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (32, 32), (1, 500)])
def test_pictures_of_any_size_are_compared(
    mined: Mined, bench: Path, size: tuple[int, int]
) -> None:
    write_image(bench / "tiny.png", scene(4)[: size[0], : size[1]])
    mined.video("a", [scene(0), scene(2)])
    mined.dedup(bench)
    assert set(mined.excluded) == {("a", 0)}
    assert mined.meta["reference_pictures"] == 3


# ---- again and again -----------------------------------------------------------------------------


def test_pinned_frames_near_new_references_go_and_the_others_stay(
    mined: Mined, bench: Path
) -> None:
    mined.video("a", [scene(0), with_noise(scene(0), 5), scene(2), scene(3)], sharpness=0.5)
    mined.dedup()
    assert mined.kept == [("a", 0), ("a", 2), ("a", 3)]
    mined.video("b", [with_noise(scene(2)), scene(4)], sharpness=0.9)
    result = mined.dedup(bench)
    assert set(mined.excluded) == {("a", 0), ("a", 1)}
    assert mined.kept == [("a", 2), ("a", 3), ("b", 1)]
    assert (result.pinned, result.judged) == (2, 2)
    assert mined.dedup().unique == 4, "what is not excluded any more comes back"
    assert ("a", 0) in mined.kept
    assert not (mined.out / "excluded.parquet").exists()


def test_only_new_frames_are_compared_again(mined: Mined, bench: Path) -> None:
    mined.video("a", [scene(0), scene(2)])
    mined.dedup(bench)
    before = mined.excluded
    mined.video("b", [altered(scene(1), "flipped")])
    mined.messages.clear()
    mined.dedup(bench)
    assert "comparing 1 frames with 2 pictures" in mined.messages
    assert mined.excluded.keys() == {("a", 0), ("b", 0)}
    assert mined.excluded["a", 0] == before["a", 0]
    write_image(bench / "2.png", scene(2))
    mined.dedup(bench)
    assert "comparing 3 frames with 3 pictures" in mined.messages
    assert mined.excluded.keys() == {("a", 0), ("a", 1), ("b", 0)}


def test_steps_give_what_one_run_gives(mined: Mined, bench: Path, tmp_path: Path) -> None:
    mined.video("a", [scene(0), scene(2)])
    mined.dedup(bench)
    mined.video("b", [altered(scene(1), "all"), scene(3)])
    mined.dedup(bench)
    whole = Mined(tmp_path / "whole")
    whole.root.mkdir()
    (whole.root / "filtered").symlink_to(mined.root / "filtered")
    whole.dedup(bench)
    assert whole.excluded == mined.excluded
    assert whole.kept == mined.kept


def test_a_frame_that_became_another_picture_is_compared_again(mined: Mined, bench: Path) -> None:
    mined.video("a", [scene(0), scene(2)])
    mined.dedup(bench)
    mined.root.joinpath("filtered", "a").rename(mined.root / "old")
    mined.video("a", [scene(5), scene(1)])
    mined.dedup(bench)
    assert mined.excluded.keys() == {("a", 1)}


def test_pictures_are_read_once(mined: Mined, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(bench / "x.tar", {"a.jpg": scene(7), "b.jpg": scene(8)})
    decoded: list[int] = []

    def counting(data: bytes) -> Any:
        decoded.append(len(data))
        return decode_image(data)

    monkeypatch.setattr(pictures_module, "decode_image", counting)
    mined.video("a", [scene(7), scene(2)])
    for name, count in (("first", 4), ("again", 0)):
        mined.dedup(bench)
        assert len(decoded) == count, name
        decoded.clear()
    write_image(bench / "0.png", scene(2))
    mined.dedup(bench)
    assert len(decoded) == 1, "only what was written to is read"
    assert mined.excluded.keys() == {("a", 0), ("a", 1)}
    (bench / "0.png").unlink()
    decoded.clear()
    mined.dedup(bench)
    assert not decoded
    assert mined.excluded.keys() == {("a", 0)}
    (cache,) = (mined.root / "cache").iterdir()
    cache.write_bytes(b"damaged")
    mined.dedup(bench)
    assert len(decoded) == 3
    assert len(read_table(cache, schema=pictures_module.PICTURES_SCHEMA)) == 3


# ---- fingerprints --------------------------------------------------------------------------------


def state(*exclude: Path, **settings: Any) -> str:
    references = ReferencePictures.of(
        DedupConfig(exclude=[str(path) for path in exclude], **settings)
    )
    assert references
    return references.fingerprint


def test_the_state_changes_with_every_picture_and_setting(bench: Path, tmp_path: Path) -> None:
    first = state(bench)
    assert state(bench) == first
    assert state(bench, threshold=7) != first
    assert state(bench, min_object=0) != first
    os.utime(bench / "0.png", ns=(0, 0))
    touched = state(bench)
    assert touched != first
    write_image(bench / "2.png", scene(2))
    assert state(bench) != touched
    (bench / "2.png").unlink()
    assert state(bench) == touched
    (bench / "1.png").rename(bench / "3.png")
    assert state(bench) != touched


def test_without_references_fingerprints_are_those_of_older_versions() -> None:
    settings = DedupConfig().result_settings()
    assert "exclude" not in settings
    assert settings == DedupConfig(exclude=["x"]).result_settings()
    made = fingerprints.of_dedup({"hash": "both"}, [("v", "f")], version=3)
    assert made == "24e66fff4a957ac1"
    assert fingerprints.of_dedup({"hash": "both"}, [("v", "f")], version=3, references="r") != made
    assert ReferencePictures.of(DedupConfig()) is None
