"""Files of a finished project that others have damaged: each is named, or made again, or both."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataminer.errors import DataminerError
from dataminer.frames.table import read_table
from dataminer.permissions import named
from dataminer.sync.pairing.records import STORE_FILE
from tests.support.mined import PROJECT, configure, mine
from tests.support.postgres import fresh_database
from tests.support.runs import contents
from tests.support.site import Site

OLD = 1  # nanoseconds since 1970; a file system notes when a file so old is read


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), out)
    return out.getvalue()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "other JSON": lambda _: b"[]",
    "an object": lambda _: b'{"info": [], "video": "../../x", "failure": {}}',
    "other Parquet": lambda _: parquet(),
    "a link": lambda whole: whole,
}


class Kind(NamedTuple):
    """A file that each stage leaves.

    Parameters
    ----------
    pattern : str
        Where it is in the store.
    commands : tuple of str
        Those that read it.
    mended_by : tuple of str
        What is run before the next run, which goes by rows and tables.
    lost_too : str
        What else must be gone for anybody to need it.
    """

    pattern: str
    commands: tuple[str, ...] = ("report",)
    mended_by: tuple[str, ...] = ()
    lost_too: str = ""


FRAMES = "frames/*/*/frames.parquet"
FILTERED = "projects/*/filtered/*/frames.parquet"
SYNC, DEEP = ("sync",), ("sync", "--deep")
KINDS = (
    Kind("videos/*/info.json", ("why", "sync"), SYNC, FRAMES),
    Kind("videos/*/*.mp4", ("why", "sync"), SYNC, FRAMES),
    Kind(FRAMES, ("report", "preview", "why"), SYNC),
    Kind("frames/*/*/*.jpg", ("preview", "report"), DEEP),
    Kind(FILTERED, ("report", "preview", "why")),
    Kind("projects/*/filtered/*/*.jpg", ("report",), DEEP),
    Kind("projects/*/dedup/frames.parquet", ("frames", "why")),
    Kind("projects/*/dedup/clusters.parquet", ("report",)),
    Kind("projects/*/dedup/*.jpg", ("frames",), DEEP),
    Kind("projects/*/detect/annotations.json", ("export", "report", "sync")),
    Kind("projects/*/detect/data.yaml", ("sync",), DEEP),
    Kind("projects/*/detect/images/*.jpg", ("report",), DEEP),
    Kind("projects/*/detect/labels/*.txt", ("sync",), DEEP),
    Kind("projects/*/report/index.html", ("status",)),
    Kind("projects/*/report/contact_sheet.jpg", ("status",)),
    Kind("content/*/*/*.parquet", lost_too=FILTERED),
)
COMMANDS = {
    "status": "status --json",
    "monitor": "monitor --once",
    "why": "why VIDEO",
    "report": "report birds -o out/report.html",
    "preview": "preview birds --to out/preview",
    "export": "export birds -f coco -f imagefolder --to out",
    "frames": "export birds -f parquet --frames-only --to out",
    "sync": "sync -n",
    "deep": "sync -n --deep",
    "orphans": "cleanup-orphans",
    "delete": "delete-videos VIDEO -p birds -n",
    "retry": "retry -n",
    "adopt": "adopt -n",
    "force": "force-dedup birds",  # without a terminal, nobody agrees
}


class Finished:
    """A finished project, what is in it, and a file outside of it that a link may lead to."""

    def __init__(self, site: Site) -> None:
        self.site, self.store = site, site.folder / "data"
        self.outside = site.folder / "outside"
        self.whole = self.contents()
        self.files = {kind: self._first(kind.pattern) for kind in KINDS}

    def contents(self) -> dict[str, str]:
        """Return what the files hold; of dedup's tables their rows, as they describe the work."""
        found = contents(self.site)
        for name in ("frames", "clusters"):
            table = f"projects/{PROJECT}/dedup/{name}.parquet"
            found[table] = str(read_table(self.store / table).to_pylist())
        return found

    def damage(self, file: Path, damage: str) -> None:
        """Replace a file; its own inode may have other names."""
        new = file.with_name("new")
        new.write_bytes(DAMAGES[damage](file.read_bytes()))
        if damage == "a link":
            new.replace(self.outside)
            os.utime(self.outside, ns=(OLD, 10**18))
            new.symlink_to(self.outside)
        new.replace(file)

    def damage_folder(self, folder: Path, damage: str) -> None:
        """Replace a folder by something else."""
        elsewhere = self.outside / folder.relative_to(self.store)
        if damage == "a link to a copy":
            shutil.copytree(folder, elsewhere, symlinks=True)
        shutil.rmtree(folder)
        if damage == "a file":
            folder.write_bytes(b"no folder")
        else:
            folder.symlink_to(folder if damage == "a loop" else elsewhere)

    def lies_outside(self) -> dict[str, bytes | None]:
        """Return what is in the copies of folders; have its files say if they are read."""
        found = sorted(self.outside.rglob("*"))
        files = [path for path in found if path.is_file()]
        held = {str(path): path.read_bytes() if path in files else None for path in found}
        for path in files:
            os.utime(path, ns=(OLD, 10**18))
        return held

    def command(self, name: str) -> None:
        """Run a command: it ends well, or with one sentence that has a next step."""
        words = COMMANDS[name].replace("VIDEO", self.files[KINDS[0]].parent.name).split()
        done = self.site.dataminer_here(*words)
        if done.returncode:
            assert done.stderr.count("\n") == 1, done.stderr
            assert " Next: " in done.stderr
        else:
            assert "Traceback" not in done.stderr

    def is_whole_after_the_next_run(self) -> None:
        """Run what is left; nothing outside was read or written, and nothing is lost."""
        mine(self.site)
        if self.outside.exists():
            assert self.outside.stat().st_atime_ns == OLD
            self.outside.unlink()
        assert self.contents() == self.whole
        assert not [path for path in self.store.rglob("*") if path.is_symlink()]

    def _first(self, pattern: str) -> Path:
        return min(self.store.glob(pattern))


@pytest.fixture(scope="module")
def finished(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Finished]:
    with fresh_database(server, template, "damaged") as database:
        site = Site(tmp_path_factory.mktemp("site"), database)
        configure(site)
        settings = site.config()
        settings["filter"]["content"] = {"model": "weights.pt", "require": ["thing"]}
        site.configure(**settings)
        mine(site)
        assert not mine(site).reasons()
        yield Finished(site)


@pytest.mark.parametrize("position", range(len(KINDS)), ids=[kind.pattern for kind in KINDS])
def test_a_damaged_file_is_as_one_that_is_not_there(finished: Finished, position: int) -> None:
    kind, damages = KINDS[position], list(DAMAGES)
    file = finished.files[kind]
    for turn in (position, position + 3):  # in turns, as all take a minute
        finished.damage(file, damages[turn % len(damages)])
        finished.command(kind.commands[turn % len(kind.commands)])
        if kind.lost_too:
            finished._first(kind.lost_too).unlink()
        if kind.mended_by:
            assert finished.site.dataminer_here(*kind.mended_by).returncode == 0
        finished.is_whole_after_the_next_run()


@pytest.mark.parametrize("damage", ["cut", "an object", "a link"])
def test_all_files_damaged(finished: Finished, damage: str) -> None:
    for file in finished.files.values():
        finished.damage(file, damage)
    for command in COMMANDS:
        finished.command(command)
    assert finished.site.dataminer_here("sync", "--deep").returncode == 0
    finished.is_whole_after_the_next_run()


FOLDERS = (
    ("videos/*", "frames/*", "projects/*/filtered", "projects/*/dedup", "projects/*/detect"),
    (
        "videos/*",
        "frames/*/*",
        "projects/*/filtered/*",
        "projects/*/detect/images",
        "projects/*/detect/labels",
        "projects/*/report",
    ),
)
IN_A_FOLDERS_PLACE = ("a link to a copy", "a dangling link", "a loop", "a file")


@pytest.mark.parametrize("damage", IN_A_FOLDERS_PLACE)
@pytest.mark.parametrize("inner", [False, True], ids=["outer", "inner"])
def test_a_folder_that_is_none_is_as_one_that_is_not_there(
    finished: Finished, inner: bool, damage: str
) -> None:
    finished.outside.mkdir()
    for pattern in FOLDERS[inner]:
        finished.damage_folder(finished._first(pattern), damage)
    outside = finished.lies_outside()
    for command in list(COMMANDS)[
        IN_A_FOLDERS_PLACE.index(damage) :: 4
    ]:  # in turns, as all take a minute
        finished.command(command)
    if inner:
        assert finished.site.dataminer_here("sync", "--deep").returncode == 0
    mine(finished.site)
    assert all(path.stat().st_atime_ns == OLD for path in finished.outside.rglob("*.*"))
    assert finished.lies_outside() == outside
    shutil.rmtree(finished.outside)
    finished.is_whole_after_the_next_run()


def test_a_project_that_is_a_link_is_named_and_stays(finished: Finished) -> None:
    project = finished.store / "projects" / PROJECT
    finished.outside.mkdir()
    project.rename(finished.outside / PROJECT)
    project.symlink_to(finished.outside / PROJECT)
    outside = finished.lies_outside()
    for command in COMMANDS:
        finished.command(command)
    with pytest.raises(DataminerError, match=f"{PROJECT}, is a link.* Next: move"):
        mine(finished.site)
    assert all(path.stat().st_atime_ns == OLD for path in finished.outside.rglob("*.*"))
    assert finished.lies_outside() == outside
    project.unlink()
    (finished.outside / PROJECT).rename(project)
    finished.outside.rmdir()
    finished.is_whole_after_the_next_run()


def test_top_folders_may_lie_elsewhere(finished: Finished) -> None:
    finished.outside.mkdir()
    for name in ("videos", "frames", "projects"):
        (finished.store / name).rename(finished.outside / name)
        (finished.store / name).symlink_to(finished.outside / name)
    assert not mine(finished.site).reasons()
    finished._first("projects/*/dedup/frames.parquet").unlink()
    shutil.rmtree(finished._first("projects/*/filtered"))
    mine(finished.site)
    for name in ("videos", "frames", "projects"):
        assert (finished.store / name).is_symlink()
        (finished.store / name).unlink()
        (finished.outside / name).rename(finished.store / name)
    finished.outside.rmdir()
    assert finished.contents() == finished.whole


@pytest.mark.parametrize("damage", IN_A_FOLDERS_PLACE[1:])
def test_a_top_folder_that_is_none_is_named(finished: Finished, damage: str) -> None:
    finished.outside.mkdir()
    projects = finished.store / "projects"
    projects.rename(finished.outside / "kept")
    (finished.outside / "projects").mkdir()
    projects.mkdir()
    finished.damage_folder(projects, damage)
    (finished.outside / "projects").rmdir()
    for command in list(COMMANDS)[IN_A_FOLDERS_PLACE.index(damage) :: 4]:
        finished.command(command)
    with pytest.raises(DataminerError, match=r"data/projects.*: .* Next: check it"), named():
        mine(finished.site)
    projects.unlink()
    (finished.outside / "kept").rename(projects)
    finished.outside.rmdir()
    assert finished.site.dataminer_here("sync").returncode == 0
    finished.is_whole_after_the_next_run()


def tear(table: Path) -> None:
    """Cut a table off, as a disk does: no modification time shows it."""
    before = table.stat()
    table.write_bytes(table.read_bytes()[:-9])
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_torn_frames_are_taken_out_again_once_a_filter_needs_them(finished: Finished) -> None:
    frames = finished.files[KINDS[2]]
    tear(frames)
    filtered = finished.store / "projects" / PROJECT / "filtered" / frames.parent.parent.name
    (filtered / "frames.parquet").unlink()
    finished.is_whole_after_the_next_run()


def test_torn_filtered_frames_are_made_again_by_the_run_after(finished: Finished) -> None:
    table = finished.files[KINDS[4]]
    tear(table)
    finished.files[KINDS[6]].unlink()
    with pytest.raises(DataminerError, match=r"is damaged or gone.*run snakemake again"):
        mine(finished.site)
    finished.is_whole_after_the_next_run()


def test_what_a_model_saw_is_seen_again_by_the_run_after(finished: Finished) -> None:
    """Its footer is whole, by which plans go."""
    table = finished.files[KINDS[-1]]
    with table.open("r+b") as file:
        file.seek(4)
        file.write(bytes(50))
    finished._first(FILTERED).unlink()
    with pytest.raises(DataminerError, match=r"parquet is damaged: .*made again"):
        mine(finished.site)
    assert not table.exists()
    finished.is_whole_after_the_next_run()


def test_a_store_that_does_not_say_whose_it_is_is_named(finished: Finished) -> None:
    file = finished.store / STORE_FILE
    before = file.read_bytes()
    for damage in DAMAGES:
        finished.damage(file, damage)
        done = finished.site.dataminer_here("sync")
        assert done.returncode == 1
        assert f"{file.relative_to(finished.site.folder)} is damaged" in done.stderr
        file.unlink()
        file.write_bytes(before)
