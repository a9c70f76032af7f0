"""A store and its database know each other, and nobody else."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataminer.config import load
from dataminer.db import schema
from dataminer.errors import DataminerError
from dataminer.store.layout import Store
from dataminer.sync.claims.stage_rows import DOWNLOAD
from dataminer.sync.pairing import settle, write
from dataminer.sync.pairing.check import PairingStep, require_pair
from dataminer.sync.pairing.records import STORE_FILE, NeverPaired, NotAPair, StoreRecord
from dataminer.workflow.run import Run
from tests.support import rows
from tests.support.postgres import create, drop, execute, fresh_database, name_of, superuser_of
from tests.support.runs import end_sessions
from tests.support.site import Site
from tests.support.stores import make_dataset, make_video, sync

COMMANDS = (
    ["sync"],
    ["delete-project", "p", "--files", "--videos", "--yes"],
    ["delete-videos", "v1", "--all-projects", "--files", "--yes"],
    ["cleanup-orphans", "--files", "--rows", "--yes"],
    ["force-dedup", "p", "--yes"],
    ["force-detect", "p", "--yes"],
    ["retry"],
    ["retry", "--download", "v1"],
    ["add-video", "https://example.org/new.mp4", "--project", "p"],
    ["populate"],
    ["report", "p"],
)
PATHS = "SELECT video_path, frames_dir FROM videos ORDER BY 1"


@pytest.fixture
def site(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A folder with a finished project, and its database."""
    return _mined(tmp_path / "one", database, monkeypatch, "v1")


def _mined(folder: Path, database: str, patch: pytest.MonkeyPatch, *videos: str) -> Site:
    found = Site(folder, database)
    folder.mkdir()
    _configure(found)
    patch.chdir(folder)
    patch.setenv("DATABASE_URL", database)
    store = Store(Path("data"))
    for video in videos:
        make_video(store, video)
    make_dataset(store, "p", list(videos))
    rows.add("p", *videos)
    sync(store)
    return found


def _configure(site: Site, store: Path | str = "data") -> None:
    site.configure(project="p", store=str(store), input={"urls": ["https://example.org/v.mp4"]})


def paired(site: Site, store: str = "data") -> str | None:
    with site.inside():
        return settle.settle_pair(Store(Path(store)))


def refused(site: Site, *command: str) -> str:
    """Return why a command is refused, which changes nothing, nor does what it says to do next."""
    before = (site.dump(), site.listing("."))
    done = site.dataminer_here(*command)
    assert done.returncode == 1, done.stdout
    for hint in re.findall(r"`dataminer (adopt [^`]*)`", done.stderr.partition(" Next: ")[2]):
        followed = site.dataminer_here(*shlex.split(hint))
        assert followed.returncode == 0, followed.stderr
    assert (site.dump(), site.listing(".")) == before
    return done.stderr


@pytest.fixture
def second(site: Site, server: str, template: str) -> Iterator[str]:
    """Another database, with a project of the same name."""
    with fresh_database(server, template, "second") as url:
        with replace(site, database=url).inside():
            rows.add("p", "v1", "other")
        yield url


def restored(site: Site, server: str) -> Site:
    """Restore a dump beside the database; the caller drops it."""
    end_sessions(site)
    return replace(site, database=create(server, name_of(site.database), "restored"))


# ---- one store, two databases; one database, two stores


def test_a_second_database_is_refused(site: Site, second: str) -> None:
    paired(site)
    for command in COMMANDS:
        printed = refused(replace(site, database=second), *command)
        assert f"the store {site.folder / 'data'} belongs to the database postgresql://" in printed
        assert name_of(site.database) in printed
        assert "name that database in DATABASE_URL. A second database needs a second" in printed
        assert "`dataminer adopt -n data`" in printed


def test_a_second_store_is_refused(site: Site, tmp_path: Path) -> None:
    paired(site)
    make_video(Store(tmp_path / "two"), "v1")
    _configure(site, tmp_path / "two")
    for command in COMMANDS:
        printed = refused(site, *command)
        assert f"belongs to the store {site.folder / 'data'}, not to {tmp_path / 'two'}" in printed
        assert f"set `store: {site.folder / 'data'}`" in printed
        assert f"`dataminer adopt -n {tmp_path / 'two'}`" in printed


def test_what_only_reads_says_so(site: Site, second: str) -> None:
    paired(site)
    with replace(site, database=second).inside():
        rows.downloaded("v1")
    for command in (["status"], ["why", "v1"], ["monitor", "--once"]):
        done = replace(site, database=second).dataminer_here(*command)
        assert done.returncode == 0
        assert "belongs to the database" in done.stderr
        assert "belongs to the database" not in site.dataminer_here(*command).stderr


def test_a_store_with_nothing_in_it_may_be_given_up(
    site: Site, tmp_path: Path, second: str
) -> None:
    """But not while it is there: a run may be about to make something."""
    other = replace(site, database=second)
    assert paired(other, str(tmp_path / "new")) is None
    with pytest.raises(NotAPair, match="belongs to the store"):
        paired(other, str(tmp_path / "newer"))
    shutil.rmtree(tmp_path / "new")
    assert paired(other, str(tmp_path / "newer")) is None
    assert execute(second, "SELECT path FROM dataminer_store") == [(str(tmp_path / "newer"),)]


# ---- moved, copied, restored


def test_rows_follow_a_store_that_has_moved(site: Site, tmp_path: Path) -> None:
    paired(site)
    times = "SELECT updated_at FROM videos UNION ALL SELECT updated_at FROM project_videos"
    before = execute(site.database, times)
    (site.folder / "data").rename(tmp_path / "big")
    with site.inside():
        assert require_pair(Store(tmp_path / "big")) is PairingStep.FOLLOW
    printed = paired(site, str(tmp_path / "big"))
    assert printed == (
        f"the store has moved from {site.folder / 'data'} to {tmp_path / 'big'}: 5 paths in the"
        " database follow it"
    )
    assert paired(site, str(tmp_path / "big")) is None
    videos = tmp_path / "big" / "videos" / "v1" / "v1.mp4"
    frames = tmp_path / "big" / "frames" / "v1" / "e-v1"
    assert execute(site.database, PATHS) == [(str(videos), str(frames))]
    found = execute(site.database, "SELECT filtered_dir, dedup_dir, detect_dir FROM project_videos"
                    " JOIN projects USING (project_id)")  # fmt: skip
    project = tmp_path / "big" / "projects" / "p"
    assert found == [tuple(str(project / name) for name in ("filtered/v1", "dedup", "detect"))]
    assert execute(site.database, times) == before, "a plan compares the times with those of files"
    _configure(site, tmp_path / "big")
    assert "nothing to repair" in site.dataminer_here("sync", "--deep").stdout


def test_rows_follow_whatever_a_store_was_called(site: Site, tmp_path: Path) -> None:
    """A part of the new path is the old one; `.` is no beginning of a path."""
    paired(site)
    (site.folder / "data").rename(site.folder / "aside")
    (site.folder / "data").mkdir()
    (site.folder / "aside").rename(site.folder / "data" / "first")
    assert "5 paths" in str(paired(site, str(site.folder / "data" / "first")))
    inside = replace(site, folder=site.folder / "data" / "first")
    with inside.inside():
        assert settle.settle_pair(Store(Path("."))) is None
    (site.folder / "data" / "first").rename(tmp_path / "here")
    inside = replace(site, folder=tmp_path / "here")
    assert "5 paths" in str(paired(inside, "."))
    assert execute(site.database, PATHS)[0][0] == "videos/v1/v1.mp4"
    (tmp_path / "here").rename(tmp_path / "there")
    assert "5 paths" in str(paired(site, str(tmp_path / "there")))
    assert execute(site.database, PATHS)[0][0] == str(tmp_path / "there/videos/v1/v1.mp4")
    (tmp_path / "there").rename(tmp_path / "aside")
    (tmp_path / "there").mkdir()
    (tmp_path / "aside").rename(tmp_path / "there" / "below")
    assert "5 paths" in str(paired(site, str(tmp_path / "there" / "below")))
    (tmp_path / "there" / "below").rename(tmp_path / "aside")
    shutil.rmtree(tmp_path / "there")
    (tmp_path / "aside").rename(tmp_path / "there")
    assert "5 paths" in str(paired(site, str(tmp_path / "there")))
    assert execute(site.database, PATHS)[0][0] == str(tmp_path / "there/videos/v1/v1.mp4")


def test_whatever_is_in_the_old_place_is_in_nobodys_way(site: Site, tmp_path: Path) -> None:
    paired(site)
    for number, file in enumerate(["damaged", "folder", "loop"]):
        before = site.folder / f"data{number or ''}"
        after = site.folder / f"data{number + 1}"
        before.rename(after)
        if file == "loop":
            before.symlink_to(before)
        else:
            before.mkdir()
            store_file = before / STORE_FILE
            store_file.mkdir() if file == "folder" else store_file.write_text("{")
        assert "has moved" in str(paired(site, after.name))


def test_another_way_to_the_same_folder_is_no_move(site: Site, tmp_path: Path) -> None:
    paired(site)
    (tmp_path / "way").symlink_to(site.folder / "data")
    assert paired(site, str(tmp_path / "way")) is None
    assert execute(site.database, PATHS)[0][0].startswith("data/videos/")


def test_a_copy_asks_which_is_which_once(site: Site, server: str, tmp_path: Path) -> None:
    paired(site)
    shutil.copytree(site.folder, tmp_path / "copy")
    copy = replace(restored(site, server), folder=tmp_path / "copy")
    try:
        printed = refused(copy, "sync")
        assert f"{tmp_path / 'copy' / 'data'} is a copy of {site.folder / 'data'}" in printed
        assert "`dataminer adopt -n data`" in printed
        assert "Joined the store" in copy.dataminer_here("adopt").stdout
        assert copy.dataminer_here("sync").returncode == 0
        assert copy.dataminer_here("delete-project", "p", "--files", "--yes").returncode == 0
        assert "nothing to repair" in site.dataminer_here("sync", "--deep").stdout
        assert "belongs to the database" in refused(replace(site, database=copy.database), "sync")
    finally:
        drop(server, name_of(copy.database))


def test_what_was_left_behind_is_a_copy_also_if_neither_sees_the_other(
    site: Site, tmp_path: Path
) -> None:
    """As on two machines, each with a disk of its own."""
    paired(site)
    shutil.copytree(site.folder / "data", tmp_path / "there")
    (site.folder / "data").rename(tmp_path / "unseen")
    assert "has moved" in str(paired(site, str(tmp_path / "there")))
    (tmp_path / "there").rename(tmp_path / "unseen too")
    (tmp_path / "unseen").rename(site.folder / "data")
    with pytest.raises(NotAPair, match=f"belongs to the store {tmp_path / 'there'}"):
        paired(site)


def test_a_disk_of_its_own_in_the_same_place_is_a_copy_too(site: Site, tmp_path: Path) -> None:
    paired(site)
    shutil.copytree(site.folder / "data", tmp_path / "disk")
    (site.folder / "data").rename(tmp_path / "first disk")
    (tmp_path / "disk").rename(site.folder / "data")
    assert paired(site) is None
    (site.folder / "data").rename(tmp_path / "disk")
    (tmp_path / "first disk").rename(site.folder / "data")
    with pytest.raises(NotAPair):
        paired(site)


def test_a_restored_database_goes_on_once_the_old_one_is_gone(
    site: Site, server: str, tmp_path: Path
) -> None:
    paired(site)
    first, second = (restored(site, server) for _ in range(2))
    try:
        printed = refused(first, "sync")
        assert (
            f"is a copy of the database postgresql://dataminer@/{name_of(site.database)}" in printed
        )
        assert "which is still there and works with the store" in printed
        _lose(site)
        assert name_of(first.database) in str(paired(first))
        assert paired(first) is None
        assert "is a copy of" in refused(second, "sync")
        assert "belongs to the database" in refused(site, "sync")
    finally:
        for other in (first, second):
            drop(server, name_of(other.database))


def test_a_server_that_does_not_say_which_one_it_is(site: Site, server: str) -> None:
    """As some that are rented; then a copy beside the database looks like a dump."""
    revoke = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"
    execute(superuser_of(site.database), revoke)
    paired(site)
    other = restored(site, server)
    try:
        assert name_of(other.database) in str(paired(other))
        assert "belongs to the database" in refused(site, "sync")
    finally:
        drop(server, name_of(other.database))


@pytest.mark.parametrize("location", ["", "1", "1/2"])
def test_a_place_that_says_too_little_is_another_one(site: Site, location: str) -> None:
    paired(site)
    _lose(site, location)
    assert "was postgresql://" not in str(paired(site))
    assert paired(site) is None


def _lose(site: Site, location: str = "1/2/public") -> None:
    """Have the database be one of another server, as far as one can see."""
    file = site.folder / "data" / STORE_FILE
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "place": location}))


def test_a_dump_from_before_the_store_moved_is_taken(site: Site, server: str) -> None:
    paired(site)
    old = restored(site, server)
    try:
        for before, after in (("data", "moved"), ("moved", "data")):
            (site.folder / before).rename(site.folder / after)
            assert "has moved" in str(paired(site, after))
        _lose(site)
        assert "is postgresql://" in str(paired(old))
        with pytest.raises(NotAPair):
            paired(site)
    finally:
        drop(server, name_of(old.database))


# ---- what is gone, or was never there


def test_a_file_that_is_gone_is_made_again(site: Site) -> None:
    paired(site)
    (site.folder / "data" / STORE_FILE).unlink()
    assert str(paired(site)).endswith("store.json was missing and has been written again")
    assert paired(site) is None


def test_a_store_that_is_not_mounted_is_not_begun_anew(site: Site, tmp_path: Path) -> None:
    paired(site)
    (site.folder / "data").rename(tmp_path / "away")
    stray = Store(site.folder / "data").video("stray")
    steps: list[Callable[[], None]] = [
        lambda: None,
        (site.folder / "data").mkdir,
        lambda: stray.mkdir(parents=True),
    ]
    for make in steps:
        make()
        printed = refused(site, "sync")
        assert "has 1 video with files in the store" in printed
        assert "which has none of them" in printed
        assert "mount it" in printed
        assert "which has none of them" in refused(site, "report", "p")
        assert "which has none of them" in site.dataminer_here("status").stderr
    done = site.dataminer_here("add-video", "https://example.org/new.mp4", "--project", "p")
    assert done.returncode == 0, "links may be added from any machine"
    assert site.dataminer_here("adopt").returncode == 0
    assert "v1" in site.dataminer_here("sync").stdout


def test_leftovers_do_not_make_a_store_a_strangers(site: Site) -> None:
    for number in range(8):
        make_video(Store(site.folder / "data"), f"left{number}")
    with site.inside():
        rows.add("p", *(f"wanted{number}" for number in range(20)))
    assert paired(site) is None


def test_a_database_that_was_made_anew_in_its_place_is_not_taken_for_the_old_one(
    site: Site,
) -> None:
    paired(site)
    execute(site.database, "DELETE FROM project_videos; DELETE FROM videos;"
            " DELETE FROM dataminer_store")  # fmt: skip
    printed = refused(site, "cleanup-orphans", "--files", "--yes")
    assert "is not the one that the store" in printed
    assert "it was created again, or comes from a backup" in printed


def test_files_that_no_row_knows_are_nobodys_to_delete(site: Site, second: str) -> None:
    """Of versions that noted no database: the first to come is not the owner."""
    make_video(Store(site.folder / "data"), "v2")
    make_video(Store(site.folder / "data"), "v3")
    with replace(site, database=second).inside():
        execute(second, "DELETE FROM project_videos; DELETE FROM videos")
        rows.add("p", "another")
    printed = refused(replace(site, database=second), "cleanup-orphans", "--files", "--yes")
    assert "has files of 3 videos, and the database" in printed
    assert "knows none of them" in printed
    assert paired(site) is None


def test_an_older_database_stays_with_the_store_that_its_files_are_in(
    site: Site, tmp_path: Path
) -> None:
    execute(site.database, f"UPDATE projects SET workdir = '{site.folder}'")
    (tmp_path / "elsewhere").mkdir()
    elsewhere = replace(site, folder=tmp_path / "elsewhere")
    _configure(elsewhere)
    printed = refused(elsewhere, "sync")
    assert f"belongs to the store {site.folder / 'data'}, not to" in printed
    assert paired(site) is None


def test_an_empty_database_takes_a_store_of_older_versions(
    site: Site, server: str, template: str
) -> None:
    with fresh_database(server, template, "lost") as url:
        done = replace(site, database=url).dataminer_here("sync", "--project", "p")
        assert done.returncode == 0, done.stderr
        assert execute(url, "SELECT video_id, status FROM videos") == [("v1", "EXTRACTED")]


def test_a_lost_database_is_made_again_from_the_store(
    site: Site, server: str, template: str
) -> None:
    paired(site)
    with fresh_database(server, template, "lost") as url:
        new = replace(site, database=url)
        assert "If the database is lost" in refused(new, "sync", "--project", "p")
        done = new.dataminer_here("adopt")
        assert "`dataminer sync -n --project p`" in done.stdout
        assert new.dataminer_here("sync", "--project", "p").returncode == 0
        assert execute(url, "SELECT video_id, status FROM videos") == [("v1", "EXTRACTED")]


@pytest.mark.parametrize("moved", [False, True])
def test_a_kill_between_store_and_database_leaves_a_pair(
    site: Site, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = "data"
    if moved:
        paired(site)
        (site.folder / "data").rename(site.folder / "moved")
        store = "moved"

    write_store_record = write.write_store_record

    def killed(*arguments: Any) -> None:
        write_store_record(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_store_record", killed)
        with pytest.raises(KeyboardInterrupt):
            paired(site, store)
    assert (site.folder / store / STORE_FILE).is_file()
    paired(site, store)
    assert paired(site, store) is None
    assert execute(site.database, "SELECT root FROM dataminer_store") == [(store,)]


@pytest.mark.parametrize("undoing", [False, True])
def test_a_kill_in_adopt_or_its_undo_can_be_undone(
    site: Site, second: str, undoing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paired(site)
    other = replace(site, database=second)
    before = (site.dump(), other.dump(), (site.folder / "data" / "store.json").read_bytes())
    write_store_record = write.write_store_record
    if undoing:
        assert other.dataminer_here("adopt").returncode == 0

    def killed(*arguments: Any) -> None:
        if not undoing:
            write_store_record(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_store_record", killed)
        other.dataminer_here("adopt", *(["--undo"] if undoing else []))
    assert "there is nothing to undo" in refused(site, "adopt", "--undo")
    if not undoing:
        assert other.dataminer_here("adopt").returncode == 0
    assert other.dataminer_here("adopt", "--undo").returncode == 0
    after = (site.dump(), other.dump(), (site.folder / "data" / "store.json").read_bytes())
    assert after == before
    assert paired(site) is None


def test_two_that_begin_at_one_moment_are_not_both_taken(
    site: Site, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, marked = replace(site, database=second), settle._store_record_after

    def late(*arguments: Any) -> StoreRecord:
        monkeypatch.setattr(settle, "_store_record_after", marked)
        paired(other)
        return marked(*arguments)

    monkeypatch.setattr(settle, "_store_record_after", late)
    with pytest.raises(NotAPair, match="another database has just begun"):
        paired(site)
    assert paired(other) is None
    assert execute(site.database, "SELECT * FROM dataminer_store") == []
    assert [path.name for path in (site.folder / "data").glob(".*")] == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"token": 1, "place": "", "database": ""}'])
def test_a_damaged_file_is_named(site: Site, content: str) -> None:
    paired(site)
    file = site.folder / "data" / STORE_FILE
    file.write_text(content)
    printed = refused(site, "sync")
    assert "store.json is damaged" in printed
    assert "Next: restore it from a backup" in printed
    file.unlink()
    assert site.dataminer_here("sync").returncode == 0


# ---- adopt


def test_adopt_tells_what_it_would_do_does_it_and_takes_it_back(site: Site, second: str) -> None:
    paired(site)
    other = replace(site, database=second)
    before = (other.dump(), site.dump(), site.listing())
    reported = other.dataminer_here("adopt", "-n")
    assert f"The database postgresql://dataminer@/{name_of(site.database)}" in reported.stdout
    assert "would be without a store" in reported.stdout
    assert (
        "Videos with files in the store: 1; the database has rows of 1 of them" in reported.stdout
    )
    assert (other.dump(), site.dump(), site.listing()) == before
    assert other.dataminer_here("adopt").returncode == 0
    assert "belong together already" in other.dataminer_here("adopt").stdout
    assert "belongs to" in refused(site, "sync")
    assert site.dump() == before[1]

    assert "would belong to no store again" in other.dataminer_here("adopt", "--undo", "-n").stdout
    undone = other.dataminer_here("adopt", "--undo")
    assert "belongs to no store" in undone.stdout
    assert (other.dump(), site.dump()) == before[:2]
    assert site.dataminer_here("sync").returncode == 0
    again = refused(other, "adopt", "--undo")
    assert "there is nothing to undo" in again


def test_adopt_waits_for_a_run(site: Site, second: str) -> None:
    """Also between two jobs, and if the run is of the database that the store belonged to."""
    paired(site)
    other = replace(site, folder=site.folder.parent, database=second)
    lock = site.folder / ".snakemake" / "locks" / "0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    done = other.dataminer_here("adopt", str(site.folder / "data"))
    assert f"a run of snakemake is at work in {site.folder}" in done.stderr
    lock.unlink()
    assert other.dataminer_here("adopt", str(site.folder / "data")).returncode == 0


def test_adopt_waits_for_whoever_is_at_work(site: Site, tmp_path: Path) -> None:
    paired(site)
    rows.add("p", "v2")
    rows.held(DOWNLOAD, video_id="v2")
    (tmp_path / "new").mkdir()
    printed = refused(site, "adopt", str(tmp_path / "new"))
    assert "is at work with this database" in printed
    assert not (tmp_path / "new" / STORE_FILE).exists()


def test_adopt_makes_the_tables_and_the_folder_that_is_configured(
    site: Site, server: str, tmp_path: Path
) -> None:
    with fresh_database(server, prefix="bare") as url:
        bare = replace(site, database=url)
        for word in ("typo", "config/config.yaml"):
            assert f"there is no folder {word}" in bare.dataminer_here("adopt", word).stderr
        _configure(bare, tmp_path / "new")
        assert "Would make a database" in bare.dataminer_here("adopt", "-n").stdout
        assert bare.dataminer_here("adopt").returncode == 0
        assert (tmp_path / "new" / STORE_FILE).is_file()
        assert bare.dataminer_here("adopt", "--undo").returncode == 0
        assert not (tmp_path / "new").exists()


def test_adopt_of_another_store_than_the_configured_one_says_what_to_set(
    site: Site, tmp_path: Path
) -> None:
    make_video(Store(tmp_path / "two"), "v1")
    printed = site.dataminer_here("adopt", str(tmp_path / "two")).stdout
    assert f"Next: set `store: {tmp_path / 'two'}`. The configuration has data" in printed
    assert "Then: `dataminer sync -n`" in printed


def test_files_without_a_row_are_told_of(site: Site) -> None:
    """As after a dump that is older than them: they would leave the dataset in silence."""
    make_video(Store(site.folder / "data"), "late")
    with site.inside():
        (line,) = [text for text in Run(load(site.config())).reasons() if "no row" in text]
    assert line.startswith("project p: 1 video has files and no row")
    assert "`dataminer sync --project p`" in line
    assert site.dataminer_here("sync", "--project", "p").returncode == 0
    assert execute(site.database, "SELECT count(*) FROM project_videos") == [(2,)]
    (site.folder / "data" / "projects" / "q" / "filtered" / "v1").mkdir(parents=True)
    assert "project q has files and no row" in site.dataminer_here("sync").stdout


def test_a_disk_that_is_mounted_again_is_named(site: Site, tmp_path: Path) -> None:
    paired(site)
    (site.folder / "data").rename(tmp_path / "disk")
    assert site.dataminer_here("adopt").returncode == 0
    shutil.rmtree(site.folder / "data")
    (tmp_path / "disk").rename(site.folder / "data")
    printed = refused(site, "sync")
    assert "is older than the one that the database" in printed
    assert site.dataminer_here("adopt").returncode == 0
    assert "nothing to repair" in site.dataminer_here("sync").stdout


def test_a_store_is_a_folder(site: Site) -> None:
    (site.folder / "file").write_text("")
    _configure(site, "file")
    assert "file is not a folder" in refused(site, "sync")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_is_named(site: Site) -> None:
    (site.folder / "data").chmod(0o555)
    assert "data may not be written to by" in refused(site, "sync")
    (site.folder / "data").chmod(0o755)


def test_what_the_store_says_holds_no_secret(site: Site) -> None:
    paired(site)
    assert "passfile" in site.database
    printed = json.loads((site.folder / "data" / STORE_FILE).read_text())
    assert name_of(site.database) in str(printed)
    assert "passfile" not in str(printed)


def test_roles_that_were_let_in_go_on_working(database: str) -> None:
    execute(database, "DROP TABLE dataminer_store; GRANT SELECT, UPDATE ON videos TO PUBLIC")
    execute(database, "ALTER TABLE videos DROP notes; ALTER TABLE project_videos DROP source_notes")
    execute(database, "UPDATE dataminer_version SET version_num = '0008'")
    schema.upgrade()
    granted = "SELECT privilege_type FROM information_schema.table_privileges"
    whose = "WHERE grantee = 'PUBLIC' AND table_name = 'dataminer_store'"
    found = execute(database, f"{granted} {whose} ORDER BY 1")
    assert found == [("SELECT",), ("UPDATE",)]


def test_nobody_has_met_where_there_is_no_table_yet(site: Site, server: str) -> None:
    with fresh_database(server, prefix="bare") as url, replace(site, database=url).inside():
        assert require_pair(Store(Path("data"))) is PairingStep.NOTHING
    assert not issubclass(NotAPair, NeverPaired)
    assert issubclass(NotAPair, DataminerError)
