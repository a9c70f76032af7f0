"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from dataminer.errors import DamagedFile, DataminerError
from dataminer.files import copying, flushing, hashing, links, publishing, reading
from dataminer.frames.table import CLUSTERS_SCHEMA, read_meta, read_table, write_table
from dataminer.store.file_stats import times
from dataminer.store.layout import Store


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "a.json"
    with pytest.raises(RuntimeError), publishing.atomic_write(target) as partial:
        partial.write_text("half")
        assert partial.suffix == ".json"
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with publishing.atomic_write(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["a.json"]
    assert target.read_text() == "whole"


def test_a_published_folder_replaces_the_old_one_and_can_be_published_twice(tmp_path: Path) -> None:
    final = tmp_path / "v[1]"
    for content in ("old", "new"):
        with publishing.staging_dir(final) as staging:
            (staging / "f").write_text(content)
            flushing.fsync_tree(staging)
            publishing.publish_dir(staging, final)
            publishing.publish_dir(staging, final)
    assert (final / "f").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2, "the replaced one waits to be removed"
    publishing.remove_partials(final)
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool
) -> None:
    final, seen = tmp_path / "v", []
    real = os.replace

    def watched(source: Path, target: Path) -> None:
        real(source, target)
        seen.append((final / "f").read_text() if final.exists() else None)

    if not swaps:  # a file system that cannot
        monkeypatch.setattr(publishing, "_exchange", lambda *_: False)
    for content in ("old", "new"):
        with publishing.staging_dir(final) as staging:
            (staging / "f").write_text(content)
            monkeypatch.setattr(os, "replace", watched)
            publishing.publish_dir(staging, final)
            monkeypatch.setattr(os, "replace", real)
    if swaps and None in seen:
        pytest.skip("this file system cannot swap names")
    assert seen == (["old", "new"] if swaps else ["old", None, "new"])
    publishing.remove_partials(final)
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_that_was_not_published_leaves_nothing(tmp_path: Path) -> None:
    final = tmp_path / "v"
    with pytest.raises(KeyboardInterrupt), publishing.staging_dir(final) as staging:
        (staging / "f").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_links_cost_nothing_and_a_copy_stands_in_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "s"
    source.write_text("x")
    assert copying.link_or_copy(source, tmp_path / "a") == "hardlink"
    assert (tmp_path / "a").stat().st_ino == source.stat().st_ino
    assert copying.link_or_copy(source, tmp_path / "b", reflink=True) in ("reflink", "hardlink")

    def refuse(*args: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert copying.link_or_copy(source, tmp_path / "c") == "copy"
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
def test_what_is_no_file_of_its_own_is_not_read(no_file: dict[str, Path], kind: str) -> None:
    with pytest.raises(DamagedFile, match=r"is a link|not a file"):
        reading.read_file(no_file[kind])


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
@pytest.mark.parametrize("reflink", [False, True])
@pytest.mark.parametrize("far", [False, True])
def test_what_is_no_file_of_its_own_is_not_linked(
    no_file: dict[str, Path], kind: str, reflink: bool, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    if far:
        monkeypatch.setattr(os, "link", refuse)
    target = no_file[kind].with_name("target")
    with pytest.raises(DamagedFile, match="link, or not a file"):
        copying.link_or_copy(no_file[kind], target, reflink=reflink)
    assert not os.path.lexists(target)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "", ".", "..", "a\0b", ".a"])
def test_a_name_that_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedFile, match="leads out"):
        reading.path_in(tmp_path, name)
    assert reading.path_in(tmp_path, "-a..b.jpg") == tmp_path / "-a..b.jpg"


class TestFoldersOfAStore:
    """``store/projects/p/dedup`` is a link to ``outside``, or something else that is no folder."""

    @pytest.fixture(params=["store", "../at/store", "{}"])
    def store(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Store:
        (tmp_path / "at").mkdir()
        monkeypatch.chdir(tmp_path / "at")
        store = Store(Path(request.param.format(tmp_path / "at" / "store")))
        store.project("p").mkdir(parents=True)
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "a").write_text("only its owner may change this")
        return store

    @pytest.fixture
    def linked(self, store: Store, tmp_path: Path) -> Iterator[Path]:
        folder = store.dedup("p")
        folder.symlink_to(tmp_path / "outside")
        yield folder
        assert (tmp_path / "outside" / "a").read_text() == "only its owner may change this"
        assert [path.name for path in (tmp_path / "outside").iterdir()] == ["a"]

    def test_what_is_behind_a_link_is_not_there(self, linked: Path, tmp_path: Path) -> None:
        for path in (linked / "a", linked.absolute() / "a", linked / "b" / ".." / "a"):
            with pytest.raises(DamagedFile, match="dedup is damaged: it is a link"):
                reading.read_file(path)
            with pytest.raises(DamagedFile, match="is a link"):
                copying.link_or_copy(path, tmp_path / "b")
            assert links.lstat_or_none(path) is None
            assert not links.is_file(path)
        with pytest.raises(DamagedFile):
            reading.names_without_links(linked)
        assert reading.list_names(linked) == frozenset()
        assert reading.sizes_in(linked) == {}
        assert not links.is_folder(linked)
        own = linked.with_name("own")
        own.mkdir()
        (own / "a").write_text("x")
        paths = (own / "a", linked / "a", linked.parent / "none" / "a", own / "a" / "b")
        assert [time is not None for time in times(paths)] == [True, False, False, False]

    def test_what_is_behind_a_link_is_not_removed(self, linked: Path) -> None:
        publishing.remove_file(linked / "a")
        publishing.remove(linked / "a")
        publishing.remove_staging(linked, "a")
        assert linked.is_symlink()
        publishing.remove(linked)
        assert not linked.is_symlink()

    @pytest.mark.parametrize("kind", ["link", "dangling", "loop", "file", "pipe"])
    @pytest.mark.parametrize("way", ["write", "stage", "publish"])
    def test_what_is_made_takes_its_place(
        self, store: Store, tmp_path: Path, kind: str, way: str
    ) -> None:
        folder = store.dedup("p")
        if kind == "pipe":
            os.mkfifo(folder)
        elif kind == "file":
            folder.write_text("no folder")
        else:
            targets = {"link": tmp_path / "outside", "dangling": tmp_path / "gone"}
            folder.symlink_to(targets.get(kind, folder.absolute()))
        if way == "write":
            with publishing.atomic_write(folder / "images" / "b") as partial:
                partial.write_text("new")
        else:
            final = folder if way == "publish" else folder / "images"
            with publishing.staging_dir(final) as staging:
                (staging / "b").write_text("new")
                publishing.publish_dir(staging, final)
            publishing.remove_partials(final)
        assert [p.name for p in folder.parent.rglob("*") if p.is_file()] == ["b"]
        assert not folder.is_symlink()
        assert [path.name for path in (tmp_path / "outside").iterdir()] == ["a"]

    def test_a_project_that_is_a_link_is_named(self, store: Store, tmp_path: Path) -> None:
        project = store.project("q")
        project.symlink_to(tmp_path / "outside")
        readers: list[Callable[[Path], object]] = [
            reading.read_file,
            links.lstat_or_none,
            publishing.remove_file,
            lambda path: links.make_folder(path.parent),
        ]
        for ask in readers:
            with pytest.raises(DataminerError, match=r"project q, .* is a link") as caught:
                ask(project / "a")
            assert not isinstance(caught.value, DamagedFile)
        assert project.is_symlink()

    def test_root_and_top_folders_may_be_links(self, store: Store, tmp_path: Path) -> None:
        (store.root / "projects").rename(tmp_path / "elsewhere")
        (store.root / "projects").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "root").symlink_to(store.root.absolute())
        for found in (store, Store(tmp_path / "root")):
            with publishing.atomic_write(found.dedup("p") / "b") as partial:
                partial.write_text("new")
            assert reading.read_file(found.dedup("p") / "b") == b"new"
            publishing.remove_file(found.dedup("p") / "b")
        assert list((tmp_path / "elsewhere" / "p" / "dedup").iterdir()) == []

    def test_what_models_saw_is_not_looked_for_behind_links(
        self, store: Store, tmp_path: Path
    ) -> None:
        own = store.embeddings("own", "v", "r").parent
        own.mkdir(parents=True)
        (own.parents[1] / "linked").symlink_to(tmp_path / "outside")
        (tmp_path / "outside" / "v").mkdir()
        assert store.of_models() == [own.parent]
        assert store.seen("v") == [own]


def test_fingerprints_change_with_every_part() -> None:
    fingerprints = {
        hashing.fingerprint("a", {"x": 1}),
        hashing.fingerprint("a", {"x": 2}),
        hashing.fingerprint("a", {"x": "1"}),
        hashing.fingerprint("b", {"x": 1}),
        hashing.fingerprint("a", {"x": 1}, None),
    }
    assert len(fingerprints) == 5
    assert hashing.fingerprint({"a": 1, "b": 2}) == hashing.fingerprint({"b": 2, "a": 1})


def test_tables_keep_what_is_known_about_them(tmp_path: Path) -> None:
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
                "changed": 0.25,
                "decided_by": "thumbnail",
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
