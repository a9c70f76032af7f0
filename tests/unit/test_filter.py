"""Filter judges by the columns of the table, links what passes and says why the rest did not."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataminer.config.models import FilterConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.frames.table import (
    FRAMES_FILE,
    FRAMES_SCHEMA,
    PICTURE_FIELDS,
    read_meta,
    read_table,
    write_table,
)
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.filter.stage import FilterResult, filter_frames
from dataminer.stages.filter.thresholds import METRIC_COLUMNS, QUALITY_NAMES
from tests.support.frame_rows import frame_row

NAN = float("nan")
SETTINGS = FilterConfig(
    min_sharpness=0.01, min_brightness=0.06, max_brightness=0.97, min_contrast=0.03
)
LOOSE = FilterConfig.model_validate(
    {name: int(name.startswith("max_")) for name in QUALITY_NAMES if name != "damaged"}
)
NONE = dict.fromkeys(QUALITY_NAMES, 0)


def frame(index: int, **values: Any) -> dict[str, Any]:
    return frame_row("vid", index, **values)


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    nullable = pa.schema([field.with_nullable(True) for field in FRAMES_SCHEMA])
    return pa.Table.from_pylist(rows, schema=nullable)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "frames" / "vid"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def make(source: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(as_table(rows), source / FRAMES_FILE)
    for row in rows:
        (source / row["file_name"]).write_bytes(b"picture %d" % row["frame_index"])


def images(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".parquet"}


def test_good_frames_are_linked_and_listed(source: Path, out: Path) -> None:
    rows = [frame(2), frame(0), frame(1, sharpness=0.001), frame(3, brightness=0.99)]
    make(source, rows)
    result = filter_frames(source, out, SETTINGS, meta={"fingerprint": "abc", "stage": "other"})
    assert result.passed == 2
    assert result.rejected == NONE | {"min_sharpness": 1, "max_brightness": 1}
    assert images(out) == {"vid_000000.jpg", "vid_000002.jpg"}
    assert (out / "vid_000002.jpg").samefile(source / "vid_000002.jpg")
    table = read_table(out / FRAMES_FILE)
    assert table.schema.equals(FRAMES_SCHEMA, check_metadata=False)
    assert table.to_pylist() == as_table([frame(0), frame(2)]).to_pylist()


def test_the_metadata_say_what_was_done(source: Path, out: Path) -> None:
    make(source, [frame(0), frame(1, contrast=NAN)])
    filter_frames(source, out, SETTINGS, meta={"fingerprint": "abc"})
    assert read_meta(out / FRAMES_FILE) == {
        "fingerprint": "abc",
        "stage": "filter",
        "version": VERSIONS["filter"],
        "settings": SETTINGS.result_settings(),
        "frames": 2,
        "passed": 1,
        "rejected": NONE | {"min_contrast": 1},
        "unmeasured": dict.fromkeys(METRIC_COLUMNS, 0) | {"contrast": 1},
    }


def test_a_frame_counts_under_the_threshold_it_failed_first(source: Path, out: Path) -> None:
    bad = {"sharpness": 0.0, "brightness": 0.0, "contrast": 0.0}
    make(source, [frame(0, **bad), frame(1, **bad | {"sharpness": 1.0})])
    result = filter_frames(source, out, SETTINGS)
    assert result.rejected == NONE | {"min_sharpness": 1, "min_brightness": 1}


@pytest.mark.parametrize("missing", [NAN, None])
@pytest.mark.parametrize(
    ("metric", "threshold"),
    [
        ("sharpness", "min_sharpness"),
        ("brightness", "min_brightness"),
        ("contrast", "min_contrast"),
        ("entropy", "min_entropy"),
        ("black", "max_black"),
        ("blank", "max_blank"),
        ("border", "max_border"),
        ("flash", "max_flash"),
        ("change", "min_change"),
    ],
)
def test_what_was_not_measured_fails(
    source: Path, out: Path, metric: str, threshold: str, missing: float | None
) -> None:
    make(source, [frame(0, **{metric: missing}), frame(1)])
    result = filter_frames(source, out, LOOSE)
    assert result.passed == 1
    assert {name for name, count in result.rejected.items() if count} == {threshold}
    assert read_meta(out / FRAMES_FILE)["unmeasured"][metric] == 1


@pytest.mark.parametrize(
    ("changes", "bad", "kept"),
    [
        ([1, 0.5, 0.5], [], [0, 1, 2]),
        ([1, 0.001, 0.009], [], [0]),
        ([1, 0.001, 0.5, 0.001], [], [0, 2]),
        ([1, 0.001, 0.001], [0], [1]),  # the first of the three is blurred
        ([1, 0.5, 0.001], [1], [0, 2]),
        ([1, 0.015, 0.001], [], [0, 1]),  # little change, but more than the threshold
        ([1, 0.015, 0.001], [0], [1]),
        ([0.001, 0.001], [], [0]),  # a table that begins within a run
    ],
)
def test_of_what_stands_still_the_first_good_frame_is_kept(
    source: Path, out: Path, changes: list[float], bad: list[int], kept: list[int]
) -> None:
    rows = [
        frame(index, change=change, sharpness=0.0 if index in bad else 0.5)
        for index, change in enumerate(changes)
    ]
    make(source, rows[::-1])  # the order of rows does not matter
    result = filter_frames(source, out, SETTINGS)
    assert read_table(out / FRAMES_FILE)["frame_index"].to_pylist() == kept
    assert result.rejected["min_change"] == len(changes) - len(bad) - len(kept)


def test_damaged_frames_have_a_reason_of_their_own_that_comes_first(
    source: Path, out: Path
) -> None:
    damaged = [None, True, False, True, None]
    blurred = {3: 0.0, 4: 0.0}
    rows = [frame(n, damaged=d, sharpness=blurred.get(n, 0.5)) for n, d in enumerate(damaged)]
    make(source, rows)
    result = filter_frames(source, out, SETTINGS)
    assert result.rejected == NONE | {"damaged": 2, "min_sharpness": 1}
    assert next(iter(result.rejected)) == "damaged"
    assert read_table(out / FRAMES_FILE)["frame_index"].to_pylist() == [0, 2]


def test_damaged_frames_can_be_kept(source: Path, out: Path) -> None:
    make(source, [frame(0, damaged=True), frame(1), frame(2, damaged=True, sharpness=0.0)])
    result = filter_frames(source, out, SETTINGS.model_copy(update={"damaged": "keep"}))
    assert result.rejected == NONE | {"min_sharpness": 1}
    assert read_table(out / FRAMES_FILE)["damaged"].to_pylist() == [True, None]


def test_of_what_stands_still_a_damaged_frame_represents_nothing(source: Path, out: Path) -> None:
    make(source, [frame(0, damaged=True), frame(1, change=0.001), frame(2, change=0.001)])
    filter_frames(source, out, SETTINGS)
    assert read_table(out / FRAMES_FILE)["frame_index"].to_pylist() == [1]


def test_frames_of_older_tables_are_not_damaged(source: Path, out: Path) -> None:
    make(source, [frame(0), frame(1, sharpness=0.0)])
    names = [field.name for field in PICTURE_FIELDS]
    older = as_table([frame(0), frame(1, sharpness=0.0)]).drop_columns(names)
    pq.write_table(older, source / FRAMES_FILE)
    assert filter_frames(source, out, SETTINGS).rejected == NONE | {"min_sharpness": 1}
    table = read_table(out / FRAMES_FILE)
    assert table.schema.equals(FRAMES_SCHEMA, check_metadata=False)
    assert [table[name].to_pylist() for name in names] == [[None]] * len(names)


def test_a_value_on_the_threshold_passes(source: Path, out: Path) -> None:
    # 0.06 and 0.97 are not the same number in float32 and float64
    make(source, [frame(0, brightness=0.06), frame(1, brightness=0.97), frame(2, sharpness=0.01)])
    assert filter_frames(source, out, SETTINGS).passed == 3


@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up(source: Path, out: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ("sharpness", "brightness", "contrast")
    values = rng.choice([NAN, 0.0, 0.02, 0.5, 0.98], (200, 3))
    make(source, [frame(i, **dict(zip(names, row, strict=True))) for i, row in enumerate(values)])
    result = filter_frames(source, out, SETTINGS)
    assert result.passed + sum(result.rejected.values()) == 200
    assert len(images(out)) == result.passed == read_table(out / FRAMES_FILE).num_rows


def test_no_frames_give_an_empty_table(source: Path, out: Path) -> None:
    write_table(source / FRAMES_FILE, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, {"failed": "x"})
    result = filter_frames(source, out, SETTINGS)
    assert result == FilterResult(0, dict.fromkeys(result.rejected, 0))
    assert read_table(out / FRAMES_FILE).num_rows == 0
    assert "failed" not in read_meta(out / FRAMES_FILE)


def test_no_frame_good_enough_gives_an_empty_table(source: Path, out: Path) -> None:
    make(source, [frame(0, sharpness=0.0)])
    assert filter_frames(source, out, SETTINGS).passed == 0
    assert read_table(out / FRAMES_FILE).schema.names == FRAMES_SCHEMA.names
    assert images(out) == set()


def test_the_same_input_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    make(source, [frame(index, sharpness=index / 100) for index in range(50)])
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        filter_frames(source, tmp_path / name, SETTINGS)
        made.append((tmp_path / name / FRAMES_FILE).read_bytes())
    assert made[0] == made[1]


def test_a_lost_image_is_named(source: Path, out: Path) -> None:
    make(source, [frame(0), frame(1)])
    (source / "vid_000001.jpg").unlink()
    with pytest.raises(PermanentError, match=r"vid_000001\.jpg is missing") as caught:
        filter_frames(source, out, SETTINGS)
    assert caught.value.error_class is ErrorClass.MISSING_SOURCE
    assert caught.value.hint


def test_a_lost_image_that_does_not_pass_is_not_missed(source: Path, out: Path) -> None:
    make(source, [frame(0), frame(1, sharpness=0.0)])
    (source / "vid_000001.jpg").unlink()
    assert filter_frames(source, out, SETTINGS).passed == 1


def test_a_lost_table_is_named(source: Path, out: Path) -> None:
    with pytest.raises(PermanentError, match=r"frames\.parquet is missing") as caught:
        filter_frames(source, out, SETTINGS)
    assert caught.value.error_class is ErrorClass.MISSING_SOURCE


def whole(rows: list[dict[str, Any]], source: Path) -> bytes:
    pq.write_table(as_table(rows), source / FRAMES_FILE)
    return (source / FRAMES_FILE).read_bytes()


@pytest.mark.parametrize("cut", [0, 3, 4, 100, -1, -8])
def test_a_damaged_table_is_refused(source: Path, out: Path, cut: int) -> None:
    (source / FRAMES_FILE).write_bytes(whole([frame(0)], source)[:cut])
    with pytest.raises(PermanentError, match="cannot be read as the table") as caught:
        filter_frames(source, out, SETTINGS)
    assert caught.value.error_class is ErrorClass.CORRUPT


def test_a_table_with_damaged_pages_is_refused(source: Path, out: Path) -> None:
    data = bytearray(whole([frame(index) for index in range(500)], source))
    data[4:2000] = bytes(1996)
    (source / FRAMES_FILE).write_bytes(data)
    with pytest.raises(PermanentError) as caught:
        filter_frames(source, out, SETTINGS)
    assert caught.value.error_class is ErrorClass.CORRUPT


@pytest.mark.parametrize(
    "foreign",
    [
        pa.table({"a": [1, 2]}),
        as_table([frame(0)]).drop_columns(["phash"]),
        as_table([frame(0)]).set_column(6, "sharpness", pa.array(["sharp"])),
        as_table([frame(0)]).set_column(19, "phash", pa.array([-1])),
    ],
    ids=["other columns", "a column less", "text for numbers", "hash below zero"],
)
def test_a_foreign_table_is_refused(source: Path, out: Path, foreign: pa.Table) -> None:
    pq.write_table(foreign, source / FRAMES_FILE)
    with pytest.raises(PermanentError, match="cannot be read as the table") as caught:
        filter_frames(source, out, SETTINGS)
    assert caught.value.error_class is ErrorClass.CORRUPT


def test_missing_values_are_named(source: Path, out: Path) -> None:
    whole([frame(0, phash=None, width=None)], source)
    with pytest.raises(PermanentError, match="lacks values in width, phash"):
        filter_frames(source, out, SETTINGS)


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a\\b.jpg", "..", "", "a\0b"])
def test_a_name_cannot_lead_out_of_the_folder(source: Path, out: Path, name: str) -> None:
    whole([frame(0, file_name=name)], source)
    with pytest.raises(PermanentError, match="lead out of its folder"):
        filter_frames(source, out, SETTINGS)


def test_a_name_cannot_come_twice(source: Path, out: Path) -> None:
    whole([frame(0), frame(1, file_name=frame(0)["file_name"])], source)
    with pytest.raises(PermanentError, match="names a file twice"):
        filter_frames(source, out, SETTINGS)


def test_a_failing_disk_is_not_the_videos_fault(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pq.ParquetFile, "read", fail)
    make(source, [frame(0)])
    with pytest.raises(OSError, match="Input/output error"):
        filter_frames(source, out, SETTINGS)
