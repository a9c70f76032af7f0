"""Dedup keeps the sharpest frame of each group, and records which frame represents each frame."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataminer.config.models import DedupConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.frames.embeddings import write_embeddings
from dataminer.frames.table import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    read_meta,
    read_table,
    write_table,
)
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.dedup.stage import Embedded, dedup
from tests.support.frame_rows import frame_row

SETTINGS = DedupConfig(hash="phash", threshold=8, min_object=0)
FAR = 0xFFFF_FFFF_0000_0000


def frame(index: int, phash: int, sharpness: float = 0.5, **values: Any) -> dict[str, Any]:
    return {"frame_index": index, "phash": phash, "dhash": 0, "sharpness": sharpness} | values


def video(root: Path, video_id: str, rows: list[dict[str, Any]]) -> Path:
    folder = root / "filtered" / video_id
    folder.mkdir(parents=True)
    rows = [frame_row(**({"video_id": video_id} | row)) for row in rows]
    table = pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {"stage": "filter"})
    for row in rows:
        (folder / row["file_name"]).write_text(row["file_name"])
    return folder


def run(folders: list[Path], root: Path, name: str = "out", **settings: Any) -> Path:
    out = root / name
    out.mkdir()
    dedup(folders, out, SETTINGS.model_copy(update=settings))
    return out


def kept(out: Path) -> list[tuple[str, int]]:
    rows = read_table(out / FRAMES_FILE).to_pylist()
    return [(row["video_id"], row["frame_index"]) for row in rows]


def clusters(out: Path) -> list[tuple[Any, ...]]:
    columns = CLUSTERS_SCHEMA.names[:5]
    return [tuple(row.values()) for row in read_table(out / CLUSTERS_FILE, columns).to_pylist()]


@pytest.fixture
def two_videos(tmp_path: Path) -> list[Path]:
    """Two videos that share a scene, each with one of its own, and an empty one."""
    return [
        video(tmp_path, "b", [frame(4, 0b11, 0.9), frame(9, FAR, 0.2)]),
        video(tmp_path, "empty", []),
        video(tmp_path, "a", [frame(0, 0b00, 0.5), frame(3, 0b01, 0.4), frame(7, ~FAR % 2**64)]),
    ]


def test_the_sharpest_stands_for_its_group(two_videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    printed: list[str] = []
    result = dedup(two_videos, out, SETTINGS, meta={"project": "p"}, progress=printed.append)
    assert (result.frames, result.unique, result.judged) == (5, 3, 5)
    assert kept(out) == [("a", 7), ("b", 4), ("b", 9)]
    assert clusters(out) == [
        ("a", 0, "b", 4, 2),
        ("a", 3, "b", 4, 1),
        ("a", 7, "a", 7, 0),
        ("b", 4, "b", 4, 0),
        ("b", 9, "b", 9, 0),
    ]
    assert printed[-1].startswith("3 of 5 frames are unique; 5 judged by comparing ")


def test_the_folder_holds_links_and_whole_tables(two_videos: list[Path], tmp_path: Path) -> None:
    out = run(two_videos, tmp_path)
    images = {"a_000007.jpg", "b_000004.jpg", "b_000009.jpg"}
    assert {path.name for path in out.iterdir()} == images | {FRAMES_FILE, CLUSTERS_FILE}
    assert (out / "b_000004.jpg").samefile(two_videos[0] / "b_000004.jpg")
    for file, schema in ((FRAMES_FILE, FRAMES_SCHEMA), (CLUSTERS_FILE, CLUSTERS_SCHEMA)):
        assert read_table(out / file).schema.equals(schema, check_metadata=False)


def test_the_metadata_say_what_was_done(two_videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    dedup(two_videos, out, SETTINGS, meta={"fingerprint": "abc", "stage": "other"})
    for file in (FRAMES_FILE, CLUSTERS_FILE):
        meta = read_meta(out / file)
        assert meta.pop("compared") > 0
        assert meta == {
            "fingerprint": "abc",
            "stage": "dedup",
            "version": VERSIONS["dedup"],
            "settings": {"method": "hash", "hash": "phash", "threshold": 8},
            "frames": 5,
            "unique": 3,
            "pinned": 0,
            "carried": 0,
            "judged": 5,
            "aligned": 0,
        }


def test_the_order_of_folders_does_not_matter(tmp_path: Path) -> None:
    rng = random.Random(1)
    folders = []
    for number in range(12):
        scene = rng.getrandbits(64) if number % 3 else 0
        rows = [
            frame(index, scene ^ (1 << rng.randrange(64)), rng.choice([0.1, 0.2]))
            for index in range(rng.randrange(8))
        ]
        folders.append(video(tmp_path, f"v{number}", rows))
    made = set()
    for attempt in range(4):
        rng.shuffle(folders)
        out = run(folders, tmp_path, f"out{attempt}")
        made.add(tuple((out / file).read_bytes() for file in (FRAMES_FILE, CLUSTERS_FILE)))
    assert len(made) == 1


def test_ties_go_by_video_then_time_then_index(tmp_path: Path) -> None:
    folders = [
        video(tmp_path, "b", [frame(0, 0)]),
        video(tmp_path, "a", [frame(1, 0, pts_time=2.0), frame(2, 0, pts_time=1.0)]),
    ]
    assert kept(run(folders, tmp_path)) == [("a", 2)]
    folders = [video(tmp_path, "c", [frame(5, 0, pts_time=1.0), frame(4, 0, pts_time=1.0)])]
    assert kept(run(folders, tmp_path, "out2")) == [("c", 4)]


def test_the_hash_is_that_of_the_settings(tmp_path: Path) -> None:
    folder = video(tmp_path, "a", [frame(0, 0, dhash=0), frame(1, 0, dhash=FAR)])
    assert len(kept(run([folder], tmp_path, "p", hash="phash"))) == 1
    assert len(kept(run([folder], tmp_path, "d", hash="dhash"))) == 2


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (1, 2), (3, 1)])
def test_the_threshold_is_that_of_the_settings(tmp_path: Path, threshold: int, count: int) -> None:
    folder = video(tmp_path, "a", [frame(0, 0b000, 0.9), frame(1, 0b001), frame(2, 0b111)])
    assert len(kept(run([folder], tmp_path, threshold=threshold))) == count


def test_hashes_with_the_highest_bit_survive(tmp_path: Path) -> None:
    out = run([video(tmp_path, "a", [frame(0, 2**64 - 1)])], tmp_path)
    assert read_table(out / FRAMES_FILE)["phash"].to_pylist() == [2**64 - 1]


@pytest.mark.parametrize("videos", [0, 1, 3])
def test_no_frames_at_all(tmp_path: Path, videos: int) -> None:
    out = run([video(tmp_path, f"v{number}", []) for number in range(videos)], tmp_path)
    assert kept(out) == []
    assert clusters(out) == []
    assert read_meta(out / FRAMES_FILE)["unique"] == 0


def test_one_frame(tmp_path: Path) -> None:
    out = run([video(tmp_path, "a", [frame(3, FAR)])], tmp_path)
    assert kept(out) == [("a", 3)]
    assert clusters(out) == [("a", 3, "a", 3, 0)]


def test_all_identical(tmp_path: Path) -> None:
    folders = [video(tmp_path, v, [frame(i, FAR) for i in range(100)]) for v in ("b", "a")]
    out = run(folders, tmp_path)
    assert kept(out) == [("a", 0)]
    assert {row[2:] for row in clusters(out)} == {("a", 0, 0)}


def test_a_frame_that_was_not_measured_comes_last(tmp_path: Path) -> None:
    folder = video(tmp_path, "a", [frame(0, 0, float("nan")), frame(1, 0, 0.0)])
    assert kept(run([folder], tmp_path)) == [("a", 1)]


def test_a_lost_image_is_named(two_videos: list[Path], tmp_path: Path) -> None:
    (two_videos[0] / "b_000004.jpg").unlink()
    with pytest.raises(PermanentError, match=r"b_000004\.jpg is missing") as caught:
        run(two_videos, tmp_path)
    assert caught.value.error_class is ErrorClass.MISSING_SOURCE


def test_a_lost_table_is_named(two_videos: list[Path], tmp_path: Path) -> None:
    (two_videos[1] / FRAMES_FILE).unlink()
    with pytest.raises(PermanentError, match=r"empty/frames\.parquet is missing"):
        run(two_videos, tmp_path)


def test_a_damaged_table_is_refused(two_videos: list[Path], tmp_path: Path) -> None:
    (two_videos[1] / FRAMES_FILE).write_bytes(b"PAR1")
    with pytest.raises(PermanentError, match=r"empty/frames\.parquet is damaged") as caught:
        run(two_videos, tmp_path)
    assert caught.value.error_class is ErrorClass.CORRUPT


def test_a_video_cannot_come_twice(two_videos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="frame a 0 appears twice"):
        run([*two_videos, two_videos[2]], tmp_path)


def test_two_frames_cannot_share_a_file_name(tmp_path: Path) -> None:
    folders = [
        video(tmp_path, "a", [frame(0, 0)]),
        video(tmp_path, "b", [frame(0, FAR, file_name="a_000000.jpg")]),
    ]
    with pytest.raises(PermanentError, match=r"a_000000\.jpg appears twice"):
        run(folders, tmp_path)


# ---- by embeddings


def embed(root: Path, video_id: str, vectors: dict[int, list[float]]) -> Path:
    path = root / "embeddings" / f"{video_id}.parquet"
    made = np.array(list(vectors.values()), np.float32).reshape(len(vectors), 3)
    index = np.array(list(vectors), np.int32)
    write_embeddings(path, video_id, index, made.astype(np.float16), {"model": "model-1"})
    return path


@pytest.fixture
def embedded(two_videos: list[Path], tmp_path: Path) -> Embedded:
    """Embeddings of the two videos' frames, and of others that the filter did not let pass."""
    files = {
        "a": embed(tmp_path, "a", {0: [1, 0, 0], 3: [0, 1, 0], 5: [1, 1, 1], 7: [0.9, 0.3, 0]}),
        "b": embed(tmp_path, "b", {4: [0, 1, 0.1], 9: [0, 0, 1]}),
        "empty": embed(tmp_path, "empty", {}),
    }
    embedded = Embedded.of(files)
    assert embedded.model == "model-1"
    return embedded


def by_embedding(
    folders: list[Path], root: Path, name: str, embedded: Embedded, **more: Any
) -> Path:
    out = root / name
    out.mkdir()
    dedup(folders, out, DedupConfig(method="embedding", similarity=0.9), embedded=embedded, **more)
    return out


def test_embeddings_decide_where_the_settings_say_so(
    two_videos: list[Path], tmp_path: Path, embedded: Embedded
) -> None:
    out = by_embedding(two_videos, tmp_path, "out", embedded)
    # the third frame is as sharp as the first: the earlier one is kept
    assert kept(out) == [("a", 0), ("b", 4), ("b", 9)]
    stands = {row[:2]: row[2:4] for row in clusters(out)}
    assert stands["a", 3] == ("b", 4)
    assert stands["a", 7] == ("a", 0)
    distance = {row[:2]: row[4] for row in clusters(out)}
    assert distance["a", 7] == pytest.approx(1 - 0.9 / 0.9**0.5, abs=1e-3)
    assert read_meta(out / FRAMES_FILE)["settings"] == {"method": "embedding", "similarity": 0.9}


def test_kept_by_embeddings_stays_kept_for_the_same_model(
    two_videos: list[Path], tmp_path: Path, embedded: Embedded
) -> None:
    first = by_embedding(two_videos[1:], tmp_path, "first", embedded)
    assert kept(first) == [("a", 0), ("a", 3)]
    out = by_embedding(two_videos, tmp_path, "out", embedded, previous=first)
    assert kept(out) == [("a", 0), ("a", 3), ("b", 9)]
    other = Embedded(embedded.files, "model-2")
    out = by_embedding(two_videos, tmp_path, "other", other, previous=first)
    assert kept(out) == [("a", 0), ("b", 4), ("b", 9)]


def test_a_missing_embedding_is_named(
    two_videos: list[Path], tmp_path: Path, embedded: Embedded
) -> None:
    embed(tmp_path, "b", {4: [0, 1, 0]})
    with pytest.raises(PermanentError, match=r"b\.parquet has no frame 9.*filtered/b"):
        by_embedding(two_videos, tmp_path, "out", embedded)
    embedded.files["b"].unlink()
    with pytest.raises(PermanentError, match=r"b\.parquet is missing") as caught:
        by_embedding(two_videos, tmp_path, "out2", embedded)
    assert caught.value.error_class is ErrorClass.MISSING_SOURCE


def test_no_frames_have_no_embeddings(
    two_videos: list[Path], tmp_path: Path, embedded: Embedded
) -> None:
    assert kept(by_embedding(two_videos[1:2], tmp_path, "out", embedded)) == []
    with pytest.raises(ValueError, match="where they are"):
        run(two_videos, tmp_path, "out2", method="embedding")
