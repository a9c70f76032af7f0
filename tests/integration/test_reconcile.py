"""Files and tables made to agree, on hand-made stores and a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pytest

from dataminer.config import MonitorConfig
from dataminer.frames.images import ARCHIVE_FILE, FrameReader, FrameWriter
from dataminer.frames.table import (
    CLUSTERS_FILE,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    read_meta,
    read_table,
    write_table,
)
from dataminer.store.layout import Store
from dataminer.sync.claims import claim_end, claims, projects, stage_rows
from dataminer.sync.repair import reconcile, row_repair
from dataminer.sync.repair.evidence import Evidence
from dataminer.sync.repair.report import Report
from tests.support.postgres import execute
from tests.support.rows import Given
from tests.support.stores import (
    VIDEOS,
    dump,
    frames_of,
    listing,
    make_dataset,
    make_download,
    make_video,
    stage,
    statuses,
    sync,
)


def reported(report: Report) -> list[tuple[str, str, str]]:
    return [(each.row, each.before, each.after) for each in report.repairs]


def make_newer(path: Path) -> None:
    """As if it had been written after everything else."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**12))


# ---- rows that say less than the files


def test_a_database_that_knows_only_names_takes_up_a_finished_store(
    database: str, files: Store
) -> None:
    projects.add_videos("p", [Given(name) for name in VIDEOS])
    before = listing(files)
    report = sync(files)
    assert statuses(database) == {
        "bad": ("FAILED", "FAILED"),
        "none": ("EXTRACTED", "FILTERED_EMPTY"),
        "v1": ("EXTRACTED", "FILTERED"),
    }
    assert [after for row, _, after in reported(report) if row == "p"] == [
        "DEDUP_READY",
        "COMPLETE",
    ]
    counters = execute(
        database,
        "SELECT total_videos, videos_pending, videos_downloaded, videos_extracted, videos_failed,"
        " extracted_frames, filtered_frames, unique_frames, annotations FROM projects",
    )
    assert counters == [(3, 0, 2, 2, 1, 6, 2, 1, 1)]
    assert execute(database, "SELECT error FROM videos WHERE video_id = 'bad'")[0][0] == (
        "gone. Next: nothing to do: the source is gone"
    )
    assert listing(files) == before
    rows = dump(database)
    assert sync(files).repairs == []
    assert sync(files, deep=True).repairs == []
    assert dump(database) == rows, "nothing is written where nothing disagrees"


def test_a_dry_run_says_the_same_and_writes_nothing(database: str, files: Store) -> None:
    projects.add_videos("p", [Given(name) for name in VIDEOS])
    shutil.rmtree(files.filtered("p", "none"))
    rows, disk = dump(database), listing(files)
    dry = sync(files, dry_run=True)
    assert dry.dry_run
    assert (dump(database), listing(files)) == (rows, disk)
    assert reported(dry) == reported(sync(files))


def test_a_dry_run_does_not_wait_for_videos_that_a_run_leaves_for_later(
    whole: tuple[str, Store],
) -> None:
    database, store = whole
    projects.add_videos("p", [Given("late")])
    execute(
        database,
        "UPDATE videos SET failing_since = now(), not_before = now() + interval '1 hour'"
        " WHERE video_id = 'late'",
    )
    dry = sync(store, dry_run=True)
    assert reported(dry) == reported(sync(store))
    assert reported(dry) == [
        ("p", "FILTERING", "DEDUP_READY"),
        ("p", "DEDUP_READY", "COMPLETE"),  # a plan, too, leaves out a video that waits
    ]


def test_only_what_is_there_is_taken_up(database: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    make_download(store, "v1")
    projects.add_videos("p", [Given("v1"), Given("v2")])
    assert reported(sync(store)) == [
        ("v1", "PENDING", "DOWNLOADED"),
        ("p", "POPULATING", "FILTERING"),
    ]
    assert sync(store).repairs == []


@pytest.mark.parametrize("size", [0, 2, 4])
def test_a_video_of_another_size_than_was_recorded_is_not_taken_up(
    database: str, tmp_path: Path, size: int
) -> None:
    store = Store(tmp_path / "data")
    make_download(store, "v1")
    (store.video("v1") / "v1.mp4").write_bytes(bytes(size))
    projects.add_videos("p", [Given("v1")])
    assert reported(sync(store)) == [("v1", "PENDING", "PENDING")], "its info.json goes"
    assert statuses(database)["v1"] == ("PENDING", "PENDING")
    assert not (store.video("v1") / "info.json").exists()


def test_frames_of_another_download_are_not_taken_up_and_stay(
    database: str, tmp_path: Path
) -> None:
    store = Store(tmp_path / "data")
    make_video(store, "v1")
    make_newer(store.video("v1") / "info.json")
    make_newer(frames_of(store, "v1") / FRAMES_FILE)
    make_newer(store.video("v1") / "info.json")
    projects.add_videos("p", [Given("v1")])
    report = sync(store)
    assert reported(report)[:1] == [("v1", "PENDING", "DOWNLOADED")]
    assert not any(each.removed for each in report.repairs)
    assert (frames_of(store, "v1") / FRAMES_FILE).exists()
    assert statuses(database)["v1"] == ("DOWNLOADED", "FILTERED"), "a plan tells that it is due"
    assert sync(store).repairs == []


def test_an_output_that_is_older_but_of_this_very_input_is_taken_up(
    database: str, files: Store
) -> None:
    for name in VIDEOS:  # as when frames were made again, byte for byte
        make_newer(frames_of(files, name) / FRAMES_FILE)
    make_newer(files.filtered("p", "v1") / FRAMES_FILE)
    make_newer(files.dedup("p") / FRAMES_FILE)
    projects.add_videos("p", [Given(name) for name in ("none", "v1")])
    shutil.rmtree(files.filtered("p", "bad"))
    shutil.rmtree(files.project("p") / "dedup")
    shutil.rmtree(files.detect("p"))
    make_dataset(files, "p", ["none", "v1"])
    sync(files)
    assert stage(database) == "COMPLETE"


def test_dedup_of_other_videos_is_not_taken_up(database: str, files: Store) -> None:
    make_video(files, "v3")
    projects.add_videos("p", [Given(name) for name in [*VIDEOS, "v3"]])
    sync(files)
    assert stage(database) == "DEDUP_READY"
    assert not (files.dedup("p") / FRAMES_FILE).exists(), "else Snakemake might take it for whole"
    assert sync(files).repairs == []


def test_a_row_that_failed_takes_up_what_was_made_since(whole: tuple[str, Store]) -> None:
    database, store = whole
    for folder in (store.video("bad"), store.frames("bad"), store.filtered("p", "bad")):
        shutil.rmtree(folder)
    make_video(store, "bad")
    sync(store)
    assert statuses(database)["bad"] == ("EXTRACTED", "FILTERED")
    assert execute(database, "SELECT error FROM videos WHERE video_id = 'bad'") == [(None,)]


# ---- rows that say more than the files


def test_frames_that_are_gone(whole: tuple[str, Store]) -> None:
    database, store = whole
    shutil.rmtree(store.frames("v1"))
    dry = sync(store, dry_run=True)
    report = sync(store)
    assert reported(report) == reported(dry) == [
        ("v1", "EXTRACTED", "DOWNLOADED"),
        ("p/v1", "FILTERED", "PENDING"),
        ("p", "COMPLETE", "FILTERING"),
    ]  # fmt: skip
    row = "SELECT frames_dir, frame_count, video_path IS NULL FROM videos WHERE video_id = 'v1'"
    assert execute(database, row) == [(None, None, False)]
    assert execute(database, "SELECT extracted_frames FROM projects") == [(3,)]
    # Snakemake makes nothing again that only finished outputs need
    for output in (store.filtered("p", "v1") / FRAMES_FILE, store.dedup("p") / FRAMES_FILE):
        assert not output.exists()
    assert not (store.detect("p") / "annotations.json").exists()
    assert (store.filtered("p", "none") / FRAMES_FILE).exists()
    assert sync(store).repairs == []


def test_what_a_run_does_of_itself_puts_nothing_back(whole: tuple[str, Store]) -> None:
    database, store = whole
    shutil.rmtree(store.frames("v1"))
    before = dump(database), listing(store)
    assert sync(store, adopt_only=True).repairs == []
    assert (dump(database), listing(store)) == before


def older_frames(store: Store) -> None:
    """A download that is newer than its frames, and not their source."""
    make_newer(store.video("v1") / "info.json")


def other_frames(store: Store) -> None:
    """Frames that are newer than those that were filtered out of them, and not their source."""
    frames = frames_of(store, "v1")
    meta = {**read_meta(frames / FRAMES_FILE), "fingerprint": "another"}
    write_table(frames / FRAMES_FILE, read_table(frames / FRAMES_FILE), FRAMES_SCHEMA, meta)
    make_newer(frames / FRAMES_FILE)


def a_lost_image(store: Store) -> None:
    image(store.filtered("p", "v1")).unlink()


def another_video(store: Store) -> None:
    """A filtered video that dedup did not know of."""
    make_video(store, "v3")
    projects.add_videos("p", [Given("v3")])


FORGOTTEN = {
    "videos": "UPDATE videos SET status = 'PENDING', video_path = NULL WHERE video_id = 'v1'",
    "members": "UPDATE project_videos SET status = 'PENDING' WHERE video_id = 'v1'",
    "projects": "UPDATE projects SET project_stage = 'DEDUP_READY'",
}


@pytest.mark.parametrize(
    ("spoil", "forgotten", "after_a_run"),
    [
        # rows that would say more, beside files that would have to go
        (older_frames, ["videos"], ("DOWNLOADED", "FILTERED", "COMPLETE")),
        (other_frames, ["members"], ("EXTRACTED", "PENDING", "FILTERING")),
        (a_lost_image, ["members"], ("EXTRACTED", "PENDING", "FILTERING")),
        (another_video, ["projects"], ("EXTRACTED", "FILTERED", "DEDUP_READY")),
        # rows that would say more, and files that are whole
        (None, [*FORGOTTEN], ("EXTRACTED", "FILTERED", "COMPLETE")),
    ],
)
def test_what_a_run_takes_up_of_itself_costs_no_file(
    whole: tuple[str, Store],
    spoil: Callable[[Store], object] | None,
    forgotten: list[str],
    after_a_run: tuple[str, str, str],
) -> None:
    database, store = whole
    if spoil:
        spoil(store)
    for table in forgotten:
        execute(database, FORGOTTEN[table])
    before = listing(store)
    reconcile.reconcile(store, ["p"], MonitorConfig(), adopt_only=True)
    assert listing(store) == before
    assert (*statuses(database)["v1"], stage(database)) == after_a_run
    removed = [path for each in sync(store).repairs for path in each.removed]
    assert bool(removed) is (spoil not in {None, older_frames}), (
        "what is asked for by name removes them"
    )


def test_frames_that_are_gone_while_the_project_is_worked_on(whole: tuple[str, Store]) -> None:
    database, store = whole
    claims.claim(stage_rows.DETECT, {"project_id": projects.project_id_of("p")}, stale_seconds=60)
    shutil.rmtree(store.frames("v1"))
    before = listing(store)
    assert reported(sync(store)) == [("v1", "EXTRACTED", "DOWNLOADED")]
    assert statuses(database)["v1"] == ("DOWNLOADED", "FILTERED")
    assert listing(store) == before


def test_everything_of_a_video_that_is_gone(whole: tuple[str, Store]) -> None:
    database, store = whole
    for folder in (store.video("v1"), store.frames("v1"), store.filtered("p", "v1")):
        shutil.rmtree(folder)
    sync(store)
    assert statuses(database)["v1"] == ("PENDING", "PENDING")
    assert stage(database) == "FILTERING"
    assert sync(store).repairs == []


def image(folder: Path) -> Path:
    return sorted(folder.glob("*.jpg"))[0]


@pytest.mark.parametrize(
    ("spoil", "table", "after"),
    [
        (
            lambda s: image(frames_of(s, "v1")),
            lambda s: s.recipe("v1", "e-v1") / FRAMES_FILE,
            "DOWNLOADED",
        ),
        (
            lambda s: image(s.filtered("p", "v1")),
            lambda s: s.filtered("p", "v1") / FRAMES_FILE,
            "PENDING",
        ),
        (lambda s: image(s.dedup("p")), lambda s: s.dedup("p") / FRAMES_FILE, "DEDUP_READY"),
        (
            lambda s: image(s.detect("p") / "images"),
            lambda s: s.detect("p") / "annotations.json",
            "DETECT_READY",
        ),
    ],
)
def test_one_image_is_missed_by_a_deep_look_only(
    whole: tuple[str, Store],
    spoil: Callable[[Store], Path],
    table: Callable[[Store], Path],
    after: str,
) -> None:
    _, store = whole
    spoil(store).unlink()
    assert sync(store).repairs == []
    report = sync(store, deep=True)
    assert report.repairs[0].after == after
    assert str(table(store)) in report.repairs[0].removed
    assert not (store.detect("p") / "annotations.json").exists()
    assert not table(store).exists()
    assert sync(store, deep=True).repairs == []


def pack(folder: Path) -> None:
    """Turn a folder of images into one with an archive."""
    with FrameReader(folder) as reader, FrameWriter(folder, "tar") as writer:
        locations = {name: writer.add(name, reader.read(name))._asdict() for name in reader.names}
    replace_images(folder, locations, writer.meta)


def point(folder: Path, source: Path) -> None:
    """Turn a folder of images into one that names the archive of another."""
    rows = read_table(source / FRAMES_FILE, ["file_name", "byte_offset", "byte_size"]).to_pylist()
    locations = {row["file_name"]: row for row in rows}
    replace_images(folder, locations, FrameReader(source).archive_pointer(folder))


def replace_images(
    folder: Path, locations: dict[str, dict[str, Any]], archive: dict[str, Any]
) -> None:
    meta, table = read_meta(folder / FRAMES_FILE), read_table(folder / FRAMES_FILE)
    rows = [row | locations[row["file_name"]] for row in table.to_pylist()]
    packed = pa.Table.from_pylist(rows, FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, packed, FRAMES_SCHEMA, {**meta, **archive})
    for row in rows:
        (folder / row["file_name"]).unlink()


@pytest.mark.parametrize(
    ("spoil", "after"),
    [
        (lambda s: frames_of(s, "v1") / ARCHIVE_FILE, "DOWNLOADED"),
        (lambda s: s.dedup("p") / ARCHIVE_FILE, "DEDUP_READY"),
    ],
)
@pytest.mark.parametrize("cut", [True, False])
def test_archives_are_taken_up_and_missed_by_a_deep_look(
    database: str, files: Store, spoil: Callable[[Store], Path], after: str, cut: bool
) -> None:
    pack(frames_of(files, "v1"))
    point(files.filtered("p", "v1"), frames_of(files, "v1"))
    pack(files.dedup("p"))
    projects.add_videos("p", [Given(name) for name in VIDEOS])
    sync(files)
    assert statuses(database)["v1"] == ("EXTRACTED", "FILTERED")
    assert stage(database) == "COMPLETE"
    assert sync(files, deep=True).repairs == []
    archive = spoil(files)
    archive.write_bytes(archive.read_bytes()[:-1]) if cut else archive.unlink()
    assert sync(files).repairs == []
    assert sync(files, deep=True).repairs[0].after == after
    assert not (files.dedup("p") / FRAMES_FILE).exists()
    if after == "DOWNLOADED":
        assert statuses(database)["v1"] == ("DOWNLOADED", "PENDING")


@pytest.mark.parametrize(
    ("gone", "after"),
    [
        (lambda s: s.dedup("p"), "DEDUP_READY"),
        (lambda s: s.dedup("p") / CLUSTERS_FILE, "DEDUP_READY"),
        (lambda s: s.detect("p"), "DETECT_READY"),
        (lambda s: s.project("p"), "FILTERING"),
    ],
)
def test_a_complete_project_whose_files_are_gone(
    whole: tuple[str, Store], gone: Callable[[Store], Path], after: str
) -> None:
    database, store = whole
    path = gone(store)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    sync(store)
    assert stage(database) == after
    assert sync(store).repairs == []


def test_a_downloaded_file_that_is_gone(database: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    make_download(store, "v1")
    projects.add_videos("p", [Given("v1")])
    sync(store)
    (store.video("v1") / "v1.mp4").unlink()
    report = sync(store)
    assert reported(report)[0] == ("v1", "DOWNLOADED", "PENDING")
    assert not (store.video("v1") / "info.json").exists()
    assert execute(database, "SELECT status, video_path FROM videos") == [("PENDING", None)]
    assert sync(store).repairs == []


def test_a_video_file_deleted_to_save_space_costs_no_frames(whole: tuple[str, Store]) -> None:
    database, store = whole
    (store.video("v1") / "v1.mp4").unlink()
    assert sync(store).repairs == []
    assert sync(store, deep=True).repairs == []
    execute(database, "UPDATE videos SET status = 'DOWNLOADED' WHERE video_id = 'v1'")
    assert reported(sync(store))[0] == ("v1", "DOWNLOADED", "EXTRACTED")
    execute(database, "UPDATE videos SET status = 'PENDING' WHERE video_id = 'v1'")
    before = listing(store)
    sync(store)
    assert listing(store) == before


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"video": 3}'])
def test_an_info_that_is_no_info(database: str, tmp_path: Path, text: str) -> None:
    store = Store(tmp_path / "data")
    make_download(store, "v1")
    (store.video("v1") / "info.json").write_text(text)
    projects.add_videos("p", [Given("v1")])
    assert len(sync(store).repairs) == 1
    assert not (store.video("v1") / "info.json").exists()


def test_a_table_that_is_cut_off(whole: tuple[str, Store]) -> None:
    _, store = whole
    table = frames_of(store, "v1") / FRAMES_FILE
    table.write_bytes(table.read_bytes()[:100])
    assert reported(sync(store, deep=True))[0] == ("v1", "EXTRACTED", "DOWNLOADED")


def test_attempts_are_kept_so_that_a_poison_video_ends(whole: tuple[str, Store]) -> None:
    database, store = whole
    execute(database, "UPDATE videos SET attempts = 3 WHERE video_id = 'v1'")
    shutil.rmtree(store.frames("v1"))
    sync(store)
    assert execute(database, "SELECT attempts FROM videos WHERE video_id = 'v1'") == [(3,)]


# ---- rows that are missing


def test_rows_that_were_deleted_are_made_again(whole: tuple[str, Store]) -> None:
    database, store = whole
    execute(database, "DELETE FROM project_videos WHERE video_id = 'v1'")
    execute(database, "DELETE FROM videos WHERE video_id = 'v1'")
    dry = sync(store, dry_run=True)
    report = sync(store)
    assert reported(dry)[:2] == reported(report)[:2] == [
        ("v1", "missing", "PENDING"), ("p/v1", "missing", "PENDING"),
    ]  # fmt: skip
    assert statuses(database)["v1"] == ("EXTRACTED", "FILTERED")
    assert stage(database) == "COMPLETE"
    made = execute(database, "SELECT url, source_type, source_info FROM videos WHERE video_id='v1'")
    assert made == [("https://example.org/v1.mp4", "URL", {"origin": "files"})]
    assert sync(store).repairs == []


def test_a_run_makes_no_rows_of_videos_that_its_plan_does_not_know(
    whole: tuple[str, Store],
) -> None:
    database, store = whole
    execute(database, "DELETE FROM project_videos WHERE video_id = 'v1'")
    execute(database, "DELETE FROM videos WHERE video_id = 'v1'")
    sync(store, adopt_only=True)
    assert "v1" not in statuses(database)


def test_a_place_in_a_project_alone_is_made_again(whole: tuple[str, Store]) -> None:
    database, store = whole
    execute(database, "DELETE FROM project_videos WHERE video_id = 'bad'")
    sync(store)
    assert statuses(database)["bad"] == ("FAILED", "FAILED")
    assert stage(database) == "COMPLETE"


def test_what_came_from_nowhere_is_noted(whole: tuple[str, Store]) -> None:
    database, store = whole
    execute(database, "DELETE FROM project_videos WHERE video_id = 'bad'")
    execute(database, "DELETE FROM videos WHERE video_id = 'bad'")
    report = sync(store)
    assert "no file says where it came from" in report.notes[0]
    assert stage(database) == "COMPLETE"
    assert reported(sync(store, deep=True)) == [("p", "COMPLETE", "DEDUP_READY")]


def test_an_unknown_project_is_made_when_asked_for_by_name(database: str, files: Store) -> None:
    shutil.rmtree(files.filtered("p", "bad"))
    shutil.rmtree(files.dedup("p"))
    assert sync(files).repairs == []
    sync(files, ["p"])
    assert stage(database) == "DEDUP_READY"
    for name in ("void", "../data/projects/p", ""):
        assert f"no project {name}" in sync(files, [name]).notes[0]
    assert execute(database, "SELECT count(*) FROM projects") == [(1,)]


def test_names_that_are_no_ids_make_no_rows(whole: tuple[str, Store]) -> None:
    _, store = whole
    shutil.copytree(store.filtered("p", "v1"), store.filtered("p", "bad name"))
    shutil.copytree(store.filtered("p", "v1"), store.filtered("p", "x" * 65))
    assert sync(store).repairs == []


# ---- what is in use


def test_live_claims_are_left_alone(whole: tuple[str, Store]) -> None:
    database, store = whole
    claims.claim(stage_rows.EXTRACT, {"video_id": "v1"}, stale_seconds=60)
    project_id = projects.project_id_of("p")
    member = {"project_id": project_id, "video_id": "none"}
    claims.claim(stage_rows.FILTER, member, stale_seconds=60)
    claims.claim(stage_rows.DETECT, {"project_id": project_id}, stale_seconds=60)
    projects.refresh([project_id])
    for folder in (store.frames("v1"), store.filtered("p", "none"), store.detect("p")):
        shutil.rmtree(folder)
    before = execute(database, "SELECT status, lease, heartbeat_at FROM videos ORDER BY video_id")
    assert sync(store, deep=True).repairs == []
    after = execute(database, "SELECT status, lease, heartbeat_at FROM videos ORDER BY video_id")
    assert after == before
    assert statuses(database)["none"][1] == "FILTERING"
    assert stage(database) == "DETECTING"


def test_a_row_that_moved_on_since_it_was_read_is_left_alone(
    whole: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, store = whole
    shutil.rmtree(store.frames("v1"))
    first = row_repair.revert_row

    def late(*args: Any, **options: Any) -> Any:
        claims.claim(stage_rows.EXTRACT, {"video_id": "v1"}, stale_seconds=60)
        return first(*args, **options)

    monkeypatch.setattr(row_repair, "revert_row", late)
    assert reported(sync(store)) == [("p", "wrong counters", "recounted")]
    assert statuses(database)["v1"][0] == "EXTRACTING"


def test_files_that_are_back_when_their_row_is_locked_leave_it_as_it_was(
    whole: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a disk was away for a moment, or another job had just replaced a folder."""
    database, store = whole
    before = dump(database), listing(store).keys()
    aside, real = store.root.parent / "aside", row_repair.revert_row
    for path in (
        store.frames("v1"),
        store.filtered("p", "v1"),
        store.dedup("p") / FRAMES_FILE,
        store.detect("p") / "annotations.json",
    ):

        def late(*args: Any, path: Path = path) -> bool:
            aside.rename(path)
            return real(*args)

        path.rename(aside)
        monkeypatch.setattr(row_repair, "revert_row", late)
        assert sync(store).repairs == []
        assert not aside.exists(), "nothing was to be put back"
        assert (dump(database), listing(store).keys()) == before


def test_a_row_is_judged_again_while_it_is_locked(whole: tuple[str, Store]) -> None:
    database, store = whole
    key, ask = {"video_id": "v1"}, "FROM videos WHERE video_id = 'v1'"
    ((lease,),) = execute(database, f"SELECT lease {ask}")
    table, before = frames_of(store, "v1") / FRAMES_FILE, dump(database)
    found = Evidence("DOWNLOADED", (table,))

    def revert(status: str, lease: int, again: Evidence) -> bool:
        def judge() -> Evidence:
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                execute(database, f"SELECT {ask} FOR UPDATE NOWAIT")
            return again

        return row_repair.revert_row(stage_rows.DOWNLOAD, key, (status, lease), found, judge)

    assert not revert("EXTRACTED", lease, Evidence("EXTRACTED", (table,)))
    assert not revert("EXTRACTED", lease, Evidence("DOWNLOADED"))
    assert not revert("EXTRACTED", lease + 1, found)
    assert not revert("DOWNLOADED", lease, found)
    assert (dump(database), table.exists()) == (before, True)
    assert revert("EXTRACTED", lease, found)
    assert execute(database, f"SELECT status {ask}") == [("DOWNLOADED",)]
    assert not table.exists()


@pytest.fixture
def new(database: str, tmp_path: Path) -> tuple[str, Store]:
    """A downloaded video that its row does not know of."""
    store = Store(tmp_path / "data")
    make_download(store, "v1")
    projects.add_videos("p", [Given("v1")])
    return database, store


ROW = "SELECT status, lease, attempts, locked_by IS NULL FROM videos"


def test_files_that_are_gone_when_their_row_is_claimed_are_not_taken_up(
    new: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, store = new
    real = row_repair.adopt_results

    def late(*args: Any) -> bool:
        (store.video("v1") / "v1.mp4").unlink()
        return real(*args)

    monkeypatch.setattr(row_repair, "adopt_results", late)
    assert sync(store).repairs == []
    assert execute(database, ROW) == [("PENDING", 1, 0, True)]


@pytest.mark.parametrize(
    ("when", "row"),
    [
        ("before", ("DOWNLOADING", 1, 1, False)),
        ("before, and given back", ("PENDING", 1, 0, True)),
        ("after", ("DOWNLOADING", 1, 1, False)),
    ],
)
def test_a_row_that_somebody_claims_meanwhile_is_not_taken_up(
    new: tuple[str, Store],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    row: tuple[str, int, int, bool],
) -> None:
    database, store = new
    real = claims.read_row

    def somebody_claims() -> None:
        held = claims.claim(stage_rows.DOWNLOAD, {"video_id": "v1"}, stale_seconds=120)
        assert held
        if "given back" in when:
            claim_end.release(held, error=None, error_class=None, counts=False)
        else:
            execute(database, "UPDATE videos SET heartbeat_at = now() - interval '31 s'")

    def read_then(*args: Any) -> Any:
        if when == "after":
            found = real(*args)
            somebody_claims()
            return found
        somebody_claims()
        return real(*args)

    monkeypatch.setattr(claims, "read_row", read_then)
    assert [mended for mended in reported(sync(store)) if mended[0] != "p"] == []
    assert execute(database, ROW) == [row]


def test_only_the_projects_that_were_named(whole: tuple[str, Store]) -> None:
    _, store = whole
    make_download(store, "other")
    projects.add_videos("q", [Given("other")])
    assert sync(store, ["p"]).repairs == []
    assert reported(sync(store, ["q"]))[0] == ("other", "PENDING", "DOWNLOADED")


def test_projects_that_share_a_video_are_all_recounted(whole: tuple[str, Store]) -> None:
    database, store = whole
    projects.add_videos("q", [Given("v1")])
    shutil.rmtree(store.frames("v1"))
    sync(store, ["p"])
    counts = execute(database, "SELECT name, videos_extracted FROM projects ORDER BY 1")
    assert counts == [("p", 1), ("q", 0)]


def test_wrong_counters_are_mended(whole: tuple[str, Store]) -> None:
    database, store = whole
    execute(database, "UPDATE projects SET total_videos = 77")
    assert reported(sync(store)) == [("p", "wrong counters", "recounted")]
    assert execute(database, "SELECT total_videos FROM projects") == [(3,)]
