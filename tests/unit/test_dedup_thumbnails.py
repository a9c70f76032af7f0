"""Frames with near hashes are told apart by their thumbnails, which are made where none exist."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataminer.config.models import DedupConfig
from dataminer.frames.table import CLUSTERS_FILE, CLUSTERS_SCHEMA, FRAMES_FILE, read_table
from dataminer.frames.table import write_table as write
from dataminer.frames.thumbnails import (
    THUMBNAILS_FILE,
    VideoThumbnails,
    read_thumbnails,
    write_thumbnails,
)
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.dedup.stage import DedupResult, dedup
from dataminer.stages.extract.quality.metrics import FrameMetrics, measure
from tests.support.drawn_scenes import Picture, scene, with_noise, with_object, write_frames

MEASURE = "dataminer.stages.dedup.thumbnails.measure"
POSITIONS = [(x, y) for y in (0.2, 0.4, 0.6, 0.8) for x in (0.12, 0.31, 0.5, 0.69, 0.88)]


def still_camera(objects: int, empty: int = 3, seed: int = 1) -> list[Picture]:
    """Film a scene: empty, and with an object of 3% of the picture at different positions."""
    background = scene(seed)
    with_objects = [with_object(background, 0.03, POSITIONS[each]) for each in range(objects)]
    return [with_noise(each, n) for n, each in enumerate([background] * empty + with_objects)]


def run(
    folders: list[Path], root: Path, name: str = "out", previous: Path | None = None, **more: Any
) -> tuple[DedupResult, Path]:
    out = root / name
    out.mkdir()
    settings = DedupConfig.model_validate(more)
    return dedup(folders, out, settings, previous=previous), out


def clusters(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(out / CLUSTERS_FILE, schema=CLUSTERS_SCHEMA).to_pylist()
    return rows


def test_each_position_of_an_object_before_a_still_camera_is_kept(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v", still_camera(len(POSITIONS), empty=10))
    by_hash, _ = run([folder], tmp_path, "by_hash", min_object=0)
    assert by_hash.unique <= 10
    result, out = run([folder], tmp_path)
    assert result.unique == len(POSITIONS) + 1  # the empty scene once
    rows = clusters(out)
    dropped = [row for row in rows if row["frame_index"] != row["kept_frame_index"]]
    assert {row["frame_index"] for row in dropped} < set(range(10))
    assert {row["decided_by"] for row in dropped} == {"thumbnail"}
    assert all(row["changed"] <= 0.012 for row in dropped)
    kept = [row["changed"] for row in rows if row["frame_index"] == row["kept_frame_index"]]
    seen = [changed for changed in kept if changed is not None]
    assert len(seen) >= 10
    assert min(seen) > 0.012


def test_thumbnails_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_frames(tmp_path / "v", still_camera(2))
    first, _ = run([folder], tmp_path, "first")
    assert read_thumbnails(folder / THUMBNAILS_FILE).frame_index.tolist() == [0, 1, 2, 3, 4]
    monkeypatch.delattr(MEASURE)  # no image is read again
    again, _ = run([folder], tmp_path, "again", threshold=9)
    assert (again.unique, again.judged) == (first.unique, 5) == (3, 5)


def test_only_those_that_are_missing_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_frames(tmp_path / "v", still_camera(2))
    run([folder], tmp_path, "first")
    stored = read_thumbnails(folder / THUMBNAILS_FILE)
    part = VideoThumbnails(stored.frame_index[1:4], stored.jpegs[1:4], stored.means[1:4])
    write_thumbnails(folder / THUMBNAILS_FILE, part)
    made: list[Picture] = []

    def count(image: Picture) -> FrameMetrics:
        made.append(image)
        return measure(image)

    monkeypatch.setattr(MEASURE, count)
    run([folder], tmp_path, "again")
    assert len(made) == 2
    completed = read_thumbnails(folder / THUMBNAILS_FILE)
    assert completed.frame_index.tolist() == stored.frame_index.tolist()
    assert (completed.means == stored.means).all()


def test_those_of_extract_are_in_another_folder(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v", still_camera(1))
    elsewhere = tmp_path / "recipe"
    elsewhere.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    dedup([folder], out, DedupConfig(), thumbnails=[elsewhere])
    assert (elsewhere / THUMBNAILS_FILE).exists()
    assert not (folder / THUMBNAILS_FILE).exists()


def test_a_damaged_file_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_frames(tmp_path / "v", still_camera(1))
    (folder / THUMBNAILS_FILE).write_bytes(b"no table")
    with caplog.at_level(logging.WARNING):
        result, _ = run([folder], tmp_path)
    assert result.unique == 2
    assert "its thumbnails are made again" in caplog.text
    assert len(read_thumbnails(folder / THUMBNAILS_FILE).frame_index) == 4


def test_a_frame_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v", still_camera(0, empty=4))
    (folder / "v_000001.jpg").write_bytes(b"no image")
    result, out = run([folder], tmp_path)
    assert result.unique == 2
    assert {row["kept_frame_index"] for row in clusters(out)} > {1}


def test_archives_are_read_by_several_threads(tmp_path: Path) -> None:
    from dataminer.frames.images import FrameReader, FrameWriter, location_columns

    folder = write_frames(tmp_path / "files", still_camera(4), video_id="v")
    packed = tmp_path / "tar"
    packed.mkdir()
    table = read_table(folder / FRAMES_FILE)
    with FrameWriter(packed, "tar") as writer, FrameReader(folder) as reader:
        added = [writer.copy_from(reader, name) for name in reader.names]
    for name, column in location_columns(added).items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    write(packed / FRAMES_FILE, table, table.schema, writer.meta)
    out = tmp_path / "out"
    out.mkdir()
    assert dedup([packed], out, DedupConfig(), threads=3).unique == 5


def test_the_order_of_folders_does_not_matter(tmp_path: Path) -> None:
    folders = [
        write_frames(tmp_path / name, still_camera(3, seed=seed))
        for name, seed in (("a", 1), ("b", 2), ("c", 1))
    ]
    written = []
    for number, order in enumerate((folders, folders[::-1])):
        _, out = run(order, tmp_path, f"out{number}")
        written.append([(out / name).read_bytes() for name in (FRAMES_FILE, CLUSTERS_FILE)])
    assert written[0] == written[1]


def test_what_was_seen_stays_known_when_a_video_comes(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "a", still_camera(3))
    first, out = run([folder], tmp_path, "first")
    other = write_frames(tmp_path / "b", [with_noise(scene(1), 9), with_noise(scene(7), 9)])
    then, after = run([folder, other], tmp_path, "then", previous=out)
    assert (then.pinned, then.carried, then.judged) == (4, 2, 2)
    assert then.unique == first.unique + 1
    assert clusters(after)[:6] == clusters(out)


def test_results_of_versions_that_compared_hashes_alone_are_taken_over(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "v", still_camera(3))
    before, out = run([folder], tmp_path, "before", min_object=0)
    older = pa.schema(
        [field for field in CLUSTERS_SCHEMA if field.name not in ("changed", "decided_by")]
    )
    table = read_table(out / CLUSTERS_FILE, older.names)
    meta = {
        "version": VERSIONS["dedup"],
        "settings": {"method": "hash", "hash": "both", "threshold": 8},
    }
    write(out / CLUSTERS_FILE, table, older, meta)
    same, _ = run([folder], tmp_path, "same", previous=out, min_object=0)
    assert (same.pinned, same.judged) == (before.unique, 0)
    changed, _ = run([folder], tmp_path, "changed", previous=out)
    assert (changed.pinned, changed.judged, changed.unique) == (0, 6, 4)
    assert np.isclose(DedupConfig().min_object, 0.012)
