"""Images as files or in an archive: written, found again, and missed where they are gone."""

from __future__ import annotations

import io
import subprocess
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dataminer.errors import ErrorClass, PermanentError
from dataminer.frames import images
from dataminer.frames.arrays import make_table
from dataminer.frames.image_decoding import MAX_PIXELS, decode_image, open_image
from dataminer.frames.images import (
    ARCHIVE_FILE,
    FrameReader,
    FrameWriter,
    location_columns,
    seem_complete,
)
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_table, write_table
from dataminer.store.layout import Store
from tests.support import hostile_files as hostile
from tests.support.frame_rows import frame_row

IMAGES = {f"vid_{n:06d}.jpg": bytes([n]) * size for n, size in enumerate((1, 511, 512, 513, 70000))}
Kind = Literal["files", "tar"]


def make(folder: Path, kind: Kind) -> Path:
    folder.mkdir(parents=True)
    with FrameWriter(folder, kind) as writer:
        locations = [writer.add(name, data) for name, data in IMAGES.items()]
    write(
        folder,
        {name: c.to_pylist() for name, c in location_columns(locations).items()},
        writer.meta,
    )
    return folder


def write(folder: Path, columns: dict[str, list[int | None]], meta: dict[str, object]) -> None:
    rows = [
        frame_row("vid", n) | {name: values[n] for name, values in columns.items()}
        for n in range(len(IMAGES))
    ]
    table = pa.Table.from_pylist(rows, FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, meta)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return make(tmp_path / "frames" / "vid", "tar")


@pytest.mark.parametrize("kind", ["files", "tar"])
def test_what_was_written_is_read(tmp_path: Path, kind: Kind) -> None:
    folder = make(tmp_path / "vid", kind)
    with FrameReader(folder) as reader:
        assert reader.kind == kind
        assert reader.names == list(IMAGES)
        assert {name: reader.read(name) for name in reversed(reader.names)} == IMAGES
        assert reader.missing_images() == set()
        for name, data in IMAGES.items():
            assert reader.link(name, tmp_path / name) == len(data)
            assert (tmp_path / name).read_bytes() == data
    there = {path.name for path in folder.iterdir()} - {FRAMES_FILE}
    assert there == ({ARCHIVE_FILE} if kind == "tar" else set(IMAGES))


@pytest.mark.parametrize("kind", ["files", "tar"])
def test_a_link_in_the_place_of_an_image_is_not_followed(tmp_path: Path, kind: Kind) -> None:
    folder = make(tmp_path / "vid", kind)
    name = next(iter(IMAGES))
    replaced = folder / (ARCHIVE_FILE if kind == "tar" else name)
    replaced.rename(tmp_path / "elsewhere")
    replaced.symlink_to(tmp_path / "elsewhere")
    with FrameReader(folder) as reader:
        for attempt in (reader.read, lambda name: reader.link(name, tmp_path / "target")):
            with pytest.raises(PermanentError, match=r"damaged.*link") as caught:
                attempt(name)
            assert caught.value.error_class is ErrorClass.CORRUPT
        assert name in reader.missing_images()
        assert not seem_complete(folder, {**reader.meta, "frames": len(IMAGES)})
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("target", ["r/frames.tar", "../x/frames.tar", "{}/x/frames.tar", "x"])
def test_the_only_link_that_is_followed_is_our_own(tmp_path: Path, target: str) -> None:
    folder = make(tmp_path / "vid", "tar")
    (folder / "r").mkdir()
    (tmp_path / "x").mkdir()
    (folder / ARCHIVE_FILE).rename(folder / "r" / ARCHIVE_FILE)
    for link in (tmp_path / "x" / ARCHIVE_FILE, folder / "x"):
        link.hardlink_to(folder / "r" / ARCHIVE_FILE)
    (folder / ARCHIVE_FILE).symlink_to(target.format(tmp_path))
    with FrameReader(folder) as reader:
        ours = target.startswith("r/")
        assert bool(reader.missing_images()) is not ours
        assert seem_complete(folder, reader.meta) is ours
        name, data = next(iter(IMAGES.items()))
        if ours:
            assert reader.read(name) == data
        else:
            with pytest.raises(PermanentError, match="link"):
                reader.read(name)


def test_names_in_a_table_do_not_lead_out_of_its_folder(tmp_path: Path, tar: Path) -> None:
    folder = make(tmp_path / "vid", "files")
    (tmp_path / "secret").write_text("x")
    with FrameReader(folder) as reader, pytest.raises(PermanentError, match="leads out"):
        reader.read("../secret")
    table = read_table(tar / FRAMES_FILE)
    meta = {"archive": {"path": "../../secret", "bytes": 1}}
    write_table(tar / FRAMES_FILE, table, FRAMES_SCHEMA, meta)
    with FrameReader(tar) as reader, pytest.raises(PermanentError, match=r"archive\.path"):
        reader.read(next(iter(IMAGES)))


def test_what_is_larger_than_any_picture_is_not_read(
    tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 2)
    with FrameReader(tar) as reader, pytest.raises(PermanentError, match="ends before"):
        reader.read(reader.names[-1])


def test_any_tar_reads_the_archive(tar: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    command = ["tar", "xf", str(tar / ARCHIVE_FILE), "-C", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == IMAGES
    with tarfile.open(tar / ARCHIVE_FILE) as archive:
        assert archive.getnames() == list(IMAGES)
        offsets = [member.offset_data for member in archive]
    assert read_table(tar / FRAMES_FILE)["byte_offset"].to_pylist() == offsets


def test_the_same_images_give_the_same_archive(tar: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", "tar")
    assert (other / ARCHIVE_FILE).read_bytes() == (tar / ARCHIVE_FILE).read_bytes()


def test_an_archive_without_images_is_one(tmp_path: Path) -> None:
    with FrameWriter(tmp_path, "tar"):
        pass
    with tarfile.open(tmp_path / ARCHIVE_FILE) as archive:
        assert archive.getnames() == []


@pytest.mark.parametrize("name", ["a/b.jpg", "../b.jpg", "x" * 101])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with FrameWriter(tmp_path, "tar") as writer, pytest.raises(ValueError, match="name of a frame"):
        writer.add(name, b"x")


def test_another_folder_points_to_the_archive(tar: Path, tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "p" / "filtered" / "vid"
    staging = folder.with_name(".vid.partial")
    staging.mkdir(parents=True)
    pointer = FrameReader(tar).archive_pointer(staging)
    locations = FrameReader(tar)._locations.values()
    columns = {name: [getattr(p, name) for p in locations] for name in ("byte_offset", "byte_size")}
    write(staging, columns, pointer)
    staging.rename(folder)
    with FrameReader(folder) as reader:
        assert {name: reader.read(name) for name in reader.names} == IMAGES
        assert reader.missing_images() == set()
    store = tmp_path / "elsewhere"  # a store whose parts are linked to several disks
    store.mkdir()
    for name in ("frames", "projects"):
        (store / name).symlink_to(tmp_path / name)
    with FrameReader(Store(store).filtered("p", "vid")) as reader:
        assert reader.archive == store / "frames" / "vid" / ARCHIVE_FILE
        assert reader.read("vid_000003.jpg") == IMAGES["vid_000003.jpg"]
    (tar / ARCHIVE_FILE).unlink()
    assert FrameReader(folder).missing_images() == set(IMAGES)
    with pytest.raises(PermanentError, match="missing") as caught:
        FrameReader(folder).read("vid_000003.jpg")
    assert caught.value.error_class is ErrorClass.MISSING_SOURCE
    assert str(tar) in caught.value.hint
    with pytest.raises(PermanentError, match="missing"):
        FrameReader(tar).archive_pointer(staging)


def cut_off(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:3000])


def first_removed(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[1024:])


def repacked(archive: Path) -> None:
    """What happens when somebody unpacks it, and packs it again in another order."""
    with tarfile.open(archive, "w") as made:
        for name in reversed(IMAGES):
            info = tarfile.TarInfo(name)
            info.size = len(IMAGES[name])
            made.addfile(info, io.BytesIO(IMAGES[name]))


def header_overwritten(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    position = data.index(b"vid_000004.jpg")
    data[position : position + 100] = bytes(100)
    archive.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [(cut_off, True), (first_removed, True), (repacked, False), (header_overwritten, False)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_archive_that_was_changed_is_refused(
    tar: Path, tmp_path: Path, spoil: Callable[[Path], None], seen: bool
) -> None:
    spoil(tar / ARCHIVE_FILE)
    with FrameReader(tar) as reader, pytest.raises(PermanentError, match="damaged") as caught:
        reader.read("vid_000004.jpg")
    assert caught.value.error_class is ErrorClass.CORRUPT
    assert "run snakemake again" in caught.value.hint
    if seen:
        assert FrameReader(tar).missing_images() == set(IMAGES)
        with pytest.raises(PermanentError, match="size"):
            FrameReader(tar).archive_pointer(tmp_path)


def test_a_lost_file_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "vid", "files")
    (folder / "vid_000002.jpg").unlink()
    reader = FrameReader(folder)
    assert reader.missing_images() == {"vid_000002.jpg"}
    for call in (reader.read, lambda name: reader.link(name, tmp_path / name)):
        with pytest.raises(PermanentError, match=r"vid_000002\.jpg is missing") as caught:
            call("vid_000002.jpg")
        assert caught.value.error_class is ErrorClass.MISSING_SOURCE


def test_a_writer_takes_from_either_kind(tmp_path: Path) -> None:
    for source in ("files", "tar"):
        folder = make(tmp_path / source, source)
        for kind in ("files", "tar"):
            out = tmp_path / f"{source}-{kind}"
            out.mkdir()
            with FrameReader(folder) as reader, FrameWriter(out, kind) as writer:
                locations = [writer.copy_from(reader, name) for name in reader.names]
            write(
                out, {n: c.to_pylist() for n, c in location_columns(locations).items()}, writer.meta
            )
            with FrameReader(out) as reader:
                assert {name: reader.read(name) for name in reader.names} == IMAGES
            assert [location.byte_size for location in locations] == [
                len(data) for data in IMAGES.values()
            ]
    linked = tmp_path / "files-files" / "vid_000000.jpg"
    assert linked.samefile(tmp_path / "files" / "vid_000000.jpg")


def test_columns_may_be_arrays_of_any_kind() -> None:
    rows = [frame_row("vid", n) for n in range(3)]
    lists = {field.name: [row.get(field.name) for row in rows] for field in FRAMES_SCHEMA}
    arrays = {name: np.array(values) for name, values in lists.items()}  # of objects, with None
    assert {"i", "f", "U", "O"} <= {array.dtype.kind for array in arrays.values()}
    expected = pa.Table.from_pylist(rows, FRAMES_SCHEMA)
    for columns in (lists, arrays):
        table = make_table(columns, FRAMES_SCHEMA)
        table.validate(full=True)
        assert table.to_pylist() == expected.to_pylist()


# --- opening pictures


def drawn(kind: str, size: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace Pillow's opening of files, as ultralytics does."""

    def look_for_packages(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", look_for_packages)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_whole_picture_is_the_one_that_pillow_opens(
    kind: str, request: pytest.FixtureRequest
) -> None:
    data = drawn(kind)
    with Image.open(io.BytesIO(data)) as source:
        source.draft("RGB", (16, 12))
        expected = source.convert("RGB")
    request.getfixturevalue("replaced")
    with open_image(data) as source:
        source.draft("RGB", (16, 12))
        found = source.convert("RGB")
    assert (found.size, found.tobytes()) == (expected.size, expected.tobytes())


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("data", [b"", b"damaged", b"GIF89a", b"[]"])
def test_what_is_no_picture_is_told_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an image"), open_image(data):
        pass


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.02, 0.1, 0.5, 0.9])
def test_a_cut_picture_is_damaged(kind: str, share: float) -> None:
    whole = drawn(kind)
    with (
        pytest.raises(ValueError),
        open_image(whole[: max(4, int(share * len(whole)))]) as source,
    ):
        source.convert("RGB")


@pytest.mark.parametrize(("rgb", "red"), [(True, [255, 0, 0]), (False, [0, 0, 255])])
def test_colours_come_in_the_order_asked_for(rgb: bool, red: list[int]) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 1), (255, 0, 0)).save(file, "PNG")
    assert decode_image(file.getvalue(), rgb=rgb).tolist() == [[red, red]]


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("data", [hostile.jpeg(), hostile.webp(), hostile.png()])
def test_a_picture_of_more_pixels_than_any_video_has_is_not_opened(data: bytes) -> None:
    assert hostile.SIDE**2 > MAX_PIXELS
    with pytest.raises(ValueError, match="pixels"), open_image(data):
        pass


def test_large_pictures_warn_of_nothing() -> None:
    with warnings.catch_warnings(action="error"), open_image(hostile.jpeg(13_000)) as source:
        assert source.size == (13_000, 13_000)


@pytest.mark.parametrize(("size", "fits"), [((64, 48), True), ((64, 49), False)])
def test_a_picture_that_declares_more_than_its_table_is_not_decoded(
    size: tuple[int, int], fits: bool, tmp_path: Path
) -> None:
    folder = make(tmp_path / "vid", "files")
    (folder / "vid_000000.jpg").write_bytes(drawn("JPEG", size))
    with FrameReader(folder) as reader:
        if fits:
            assert reader.read_checked("vid_000000.jpg") == drawn("JPEG", size)
            return
        with pytest.raises(ValueError, match="64 x 49 pixels"):
            reader.read_checked("vid_000000.jpg")
