"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from dataminer import files
from dataminer.errors import DamagedFile
from dataminer.frames import CLUSTERS_SCHEMA, read_meta, read_table, write_table


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "sub" / "a.json"
    with pytest.raises(RuntimeError), files.atomic_write(target) as partial:
        partial.write_text("half")
        assert partial.suffix == ".json"
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with files.atomic_write(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["a.json"]
    assert target.read_text() == "whole"


def test_a_published_folder_replaces_the_old_one_and_can_be_published_twice(tmp_path: Path):
    final = tmp_path / "v[1]"
    for content in ("old", "new"):
        with files.staging_dir(final) as staging:
            (staging / "f").write_text(content)
            files.fsync_tree(staging)
            files.publish_dir(staging, final)
            files.publish_dir(staging, final)
    assert (final / "f").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2, "the replaced one waits to be removed"
    files.remove_partials(final)
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch, swaps: bool):
    final, seen = tmp_path / "v", []
    real = os.replace

    def watched(source: Path, target: Path) -> None:
        real(source, target)
        seen.append((final / "f").read_text() if final.exists() else None)

    if not swaps:  # a file system that cannot
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    for content in ("old", "new"):
        with files.staging_dir(final) as staging:
            (staging / "f").write_text(content)
            monkeypatch.setattr(os, "replace", watched)
            files.publish_dir(staging, final)
            monkeypatch.setattr(os, "replace", real)
    if swaps and None in seen:
        pytest.skip("this file system cannot swap names")
    assert seen == (["old", "new"] if swaps else ["old", None, "new"])
    files.remove_partials(final)
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_that_was_not_published_leaves_nothing(tmp_path: Path):
    final = tmp_path / "v"
    with pytest.raises(KeyboardInterrupt), files.staging_dir(final) as staging:
        (staging / "f").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_links_cost_nothing_and_a_copy_stands_in_for_them(tmp_path: Path, monkeypatch):
    source = tmp_path / "s"
    source.write_text("x")
    assert files.link_or_copy(source, tmp_path / "a") == "hardlink"
    assert (tmp_path / "a").stat().st_ino == source.stat().st_ino
    assert files.link_or_copy(source, tmp_path / "b", reflink=True) in ("reflink", "hardlink")

    def refuse(*args: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert files.link_or_copy(source, tmp_path / "c") == "copy"
    assert (tmp_path / "c").read_text() == "x"


@pytest.fixture
def no_file(tmp_path: Path) -> dict[str, Path]:
    """Make what stands in the place of a file in a store."""
    secret = tmp_path / "secret"
    secret.write_text("only its owner may see this")
    found = {name: tmp_path / name for name in ("link", "dangling", "pipe", "folder")}
    found["link"].symlink_to(secret)
    found["dangling"].symlink_to(tmp_path / "gone")
    os.mkfifo(found["pipe"])
    found["folder"].mkdir()
    return found


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_what_is_no_file_of_its_own_is_not_read(no_file: dict[str, Path], kind: str):
    with pytest.raises(DamagedFile, match=r"is a link|no file"):
        files.read_file(no_file[kind])


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
@pytest.mark.parametrize("reflink", [False, True])
@pytest.mark.parametrize("far", [False, True])
def test_what_is_no_file_of_its_own_is_not_linked(
    no_file: dict[str, Path], kind: str, reflink: bool, far: bool, monkeypatch
):
    def refuse(*args: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    if far:
        monkeypatch.setattr(os, "link", refuse)
    target = no_file[kind].with_name("target")
    with pytest.raises(DamagedFile, match="link or no file"):
        files.link_or_copy(no_file[kind], target, reflink=reflink)
    assert not os.path.lexists(target)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "", ".", "..", "a\0b"])
def test_a_name_that_leads_out_of_its_folder(tmp_path: Path, name: str):
    with pytest.raises(DamagedFile, match="leads out"):
        files.member(tmp_path, name)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(DamagedFile, match="is a link"):
        files.member(tmp_path / "link", "a.jpg")
    assert files.member(tmp_path, "...a.jpg") == tmp_path / "...a.jpg"


def test_fingerprints_change_with_every_part():
    marks = {
        files.fingerprint("a", {"x": 1}),
        files.fingerprint("a", {"x": 2}),
        files.fingerprint("a", {"x": "1"}),
        files.fingerprint("b", {"x": 1}),
        files.fingerprint("a", {"x": 1}, None),
    }
    assert len(marks) == 5
    assert files.fingerprint({"a": 1, "b": 2}) == files.fingerprint({"b": 2, "a": 1})


def test_tables_keep_what_is_known_about_them(tmp_path: Path):
    rows = pa.Table.from_pylist(
        [
            {
                "video_id": "v",
                "frame_index": 1,
                "kept_video_id": "v",
                "kept_frame_index": 0,
                "distance": 3,
                "phash": 1,
                "dhash": 2,
            }
        ]
    )
    path = tmp_path / "t.parquet"
    write_table(path, rows, CLUSTERS_SCHEMA, {"stage": "dedup", "n": [1]})
    assert read_meta(path) == {"stage": "dedup", "n": [1]}
    assert read_table(path).to_pylist() == rows.to_pylist()
    first = path.read_bytes()
    write_table(path, rows, CLUSTERS_SCHEMA, {"n": [1], "stage": "dedup"})
    assert path.read_bytes() == first
