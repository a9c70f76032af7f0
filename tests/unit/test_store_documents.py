"""What lies in a store in place of a file: it is as a stage wrote it, or named as damaged."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataminer.errors import DamagedFile
from dataminer.files.publishing import write_link
from dataminer.files.reading import is_plain_name, open_file, read_file
from dataminer.frames import table_checks
from dataminer.frames.images import FrameReader
from dataminer.frames.table import (
    FRAMES_FILE,
    FRAMES_SCHEMA,
    read_meta,
    read_model_output_meta,
    read_table,
    write_table,
)
from dataminer.store import documents
from dataminer.sync.jobs import results
from tests.support.frame_rows import frame_row

FAILURE = {"message": "gone", "error_class": "removed", "hint": "nothing to do"}
INFO = {
    "video": "v.mp4", "size_bytes": 3, "sha256": "a", "fingerprint": "f", "made_with": "m",
    "policy": "p", "settings": {"a": 1}, "title": "t", "uploader": None, "duration": 2.5,
    "licence": "l", "upload_date": "20260101", "url": "https://example.org/v",
    "failure": FAILURE,
}  # fmt: skip
META = {
    "fingerprint": "f", "filtered_from": "r", "settings": {}, "seen": ["x"], "frames": 3,
    "archive": {"path": "../../../../frames/v/r/frames.tar", "bytes": 4}, "failure": FAILURE,
    "made_with": "m", "passed": 2, "warning": None, "notes": {"truncated": 1}, "rejected": {"a": 2},
}  # fmt: skip
SEEN = {
    "mark": "m", "model": "x", "names": ["a"], "frames": [0, 3], "dimension": 3, "scale": 1.5,
    "bias": None,
}  # fmt: skip
COCO = {
    "info": {"fingerprint": "f"},
    "images": [
        {
            "id": 1,
            "file_name": "a.jpg",
            "width": 4,
            "height": 3,
            "pts_time": 0,
            "video_id": "v",
            "frame_index": 7,
        }
    ],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0.5, 1, 1], "score": 0.5}],
    "categories": [{"id": 1, "name": "thing"}],
}
SHARD = {"names": ["thing"], "boxes": {"a.jpg": [[0, 1.0, 2, 3.0, 4.0, 0.5]]}}
READERS: dict[str, tuple[Callable[[Path], Any], Any]] = {
    "info": (documents.read_info, INFO),
    "table": (lambda path: documents.table_meta(path, path.read_bytes()), META),
    "seen": (lambda path: documents.seen_meta(path, path.read_bytes()), SEEN),
    "annotations": (documents.read_annotations, COCO),
    "shard": (documents.read_shard, SHARD),
    "state": (documents.read_transfer_state, {"source": "s", "etag": None, "size": 3}),
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
quick = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def positions(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value within a value."""
    if not isinstance(value, dict | list):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(way for key, each in inner for way in positions(each, (*path, key)))]


def put(value: Any, way: tuple[Any, ...], other: Any) -> Any:
    if not way:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[way[0]] = put(copy[way[0]], way[1:], other)
    return copy


@pytest.mark.parametrize("kind", READERS)
def test_what_a_stage_wrote_is_read_as_it_is(kind: str, tmp_path: Path) -> None:
    read, good = READERS[kind]
    path = tmp_path / "file"
    path.write_text(json.dumps(good))
    assert read(path) == good


@pytest.mark.parametrize("kind", READERS)
@quick
@given(data=st.data())
def test_anything_else_is_damaged_or_of_the_same_shape(
    kind: str, tmp_path: Path, data: st.DataObject
) -> None:
    read, good = READERS[kind]
    way = data.draw(st.sampled_from(positions(good)))
    other = data.draw(anything)
    path = tmp_path / "file"
    path.write_text(json.dumps(put(good, way, other)))
    with contextlib.suppress(DamagedFile):
        found = read(path)
        assert is_plain_name(found.get("video", "x"))
        assert math.isfinite(found.get("duration") or 0)
        assert all(is_plain_name(each["file_name"]) for each in found.get("images", ()))
        assert all(len(each["bbox"]) == 4 for each in found.get("annotations", ()))
        assert isinstance(found.get("failure", {}).get("message", ""), str)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"a": NaN'],
    ids=lambda text: str(text[:8]),
)
def test_no_document_at_all(kind: str, tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(text)
    with pytest.raises(DamagedFile, match=f"{path} is damaged: "):
        READERS[kind][0](path)


@pytest.mark.parametrize("kind", ["info", "table", "annotations"])
def test_what_no_column_takes(kind: str, tmp_path: Path) -> None:
    """PostgreSQL has neither NUL nor halves of characters, nor integers of any size."""
    read, good = READERS[kind]
    path = tmp_path / "file"
    columns = {"fingerprint", "made_with", "sha256", "policy", "warning", "title", "uploader"} | {
        "licence", "url", "message", "hint", "frames", "passed", "size_bytes",
    }  # fmt: skip
    ways = [way for way in positions(good) if way and way[-1] in columns]
    for way in ways:
        for other in ("a\0", 10**30, ["a"], "\ud800"):
            path.write_text(json.dumps(put(good, way, other)))
            with contextlib.suppress(DamagedFile):
                found = read(path)
                for name in way:
                    found = found[name]
                assert found == "?", way
    assert len(ways) > (0 if kind == "annotations" else 5)


@pytest.mark.parametrize(
    "notes",
    [
        {"a\0": 1}, {"\ud800": 1}, {"": 1}, {"<b>": 1}, {"a" * 64: 1}, {"a": -1}, {"a": 10**30},
        {"a": 1.5}, {"a": "1"}, {"a": None}, {f"a{n}": 1 for n in range(101)}, ["a"], None,
    ],
    ids=lambda notes: str(notes)[:12],
)  # fmt: skip
def test_notes_are_counts_by_short_names(notes: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for good in ({}, {"a_kind_of_a_newer_version": 2**62}):
        path.write_text(json.dumps(META | {"notes": good}))
        assert READERS["table"][0](path)["notes"] == good
    path.write_text(json.dumps(META | {"notes": notes}))
    with pytest.raises(DamagedFile, match="notes"):
        READERS["table"][0](path)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a/b", "..", "", "a\0", "a\nb.jpg", "=1.jpg", "a" * 256]
)
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text(json.dumps(INFO | {"video": name}))
    assert results.read_info_or_none(tmp_path) is None
    path.write_text(json.dumps(put(COCO, ("images", 0, "file_name"), name)))
    with pytest.raises(DamagedFile):
        documents.read_annotations(path)
    table = pa.Table.from_pylist([frame_row(file_name=name)], FRAMES_SCHEMA)
    write_table(tmp_path / FRAMES_FILE, table, FRAMES_SCHEMA, {})
    with pytest.raises(DamagedFile, match="not plain file names"):
        read_table(tmp_path / FRAMES_FILE)


@pytest.mark.parametrize(
    "path", ["/etc/frames.tar", "../" * 5 + "frames.tar", "a/../../frames.tar", "../x.tar", ""]
)
def test_archives_that_lie_elsewhere(path: str, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([frame_row()], FRAMES_SCHEMA)
    meta = {"archive": {"path": path, "bytes": 3}}
    write_table(tmp_path / FRAMES_FILE, table, FRAMES_SCHEMA, meta)
    with pytest.raises(DamagedFile, match=r"archive\.path"):
        _ = FrameReader(tmp_path).archive
    assert results.read_extract(tmp_path) is None


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("images", 0, "width"), 10**30),
        (("images", 0, "frame_index"), -(10**30)),
        (("images", 0, "frame_index"), 2**31),
        (("images", 0, "video_id"), "=cmd"),
        (("images", 0, "pts_time"), 1e308),
        (("annotations", 0, "bbox", 1), -1e308),
        (("annotations", 0, "score"), 1e308),
    ],
)
def test_what_no_export_can_hold(way: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(put(COCO, way, value)))
    with pytest.raises(DamagedFile, match=r"annotations\.json is damaged"):
        documents.read_annotations(path)


def test_annotations_of_nothing(tmp_path: Path) -> None:
    for key in ("image_id", "category_id"):
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(put(COCO, ("annotations", 0, key), 7)))
        with pytest.raises(DamagedFile, match="that is missing"):
            documents.read_annotations(path)


@quick
@given(data=st.data())
def test_a_table_with_any_bytes_changed_can_be_read_or_is_damaged(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / FRAMES_FILE
    rows = [frame_row(frame_index=index) for index in range(3)]
    table = pa.Table.from_pylist(rows, FRAMES_SCHEMA)
    write_table(path, table, FRAMES_SCHEMA, {"fingerprint": "f" * 200, "frames": 3})
    whole = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(whole)))
    whole[start : start + data.draw(st.integers(0, 300))] = data.draw(st.binary(max_size=300))
    path.write_bytes(whole)
    with contextlib.suppress(DamagedFile):
        assert isinstance(read_meta(path), dict)
    with contextlib.suppress(DamagedFile):
        assert read_table(path, schema=FRAMES_SCHEMA).column_names == FRAMES_SCHEMA.names
    results.read_extract(tmp_path)


@pytest.mark.parametrize("kind", READERS)
def test_a_document_that_is_too_large_is_not_read(kind: str, tmp_path: Path) -> None:
    read = {"table": read_meta, "seen": read_model_output_meta}.get(kind, READERS[kind][0])
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 2**33)  # sparse
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write((2**32 - 100).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(DamagedFile, match=r"bytes; a file of its kind|not a Parquet file"):
        read(path)


class TestOddTables:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        rows = [frame_row(frame_index=index) for index in range(5)]
        table = pa.Table.from_pylist(rows, FRAMES_SCHEMA)
        write_table(tmp_path / FRAMES_FILE, table, FRAMES_SCHEMA, {})
        return tmp_path / FRAMES_FILE

    @pytest.mark.parametrize("limit", ["MAX_ROWS", "MAX_VALUES", "MAX_TEXT_BYTES"])
    def test_each_limit_holds(
        self, limit: str, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert read_table(path, schema=FRAMES_SCHEMA).num_rows == 5
        monkeypatch.setattr(table_checks, limit, 4)
        with pytest.raises(
            DamagedFile, match=r"more than any|longer texts|a file of its kind has at most"
        ):
            read_table(path, schema=FRAMES_SCHEMA)

    @pytest.mark.parametrize("stored", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
    def test_a_long_text_that_each_row_repeats(
        self, stored: pa.DataType, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), ["a" * 2**12])
        pq.write_table(pa.table({"a": text.cast(stored)}), path, row_group_size=100)
        assert read_table(path).num_rows == 300
        monkeypatch.setattr(table_checks, "MAX_TEXT_BYTES", 2**20)
        with pytest.raises(DamagedFile, match="longer texts"):
            read_table(path)

    @pytest.mark.parametrize(
        "values",
        [
            pa.array([["a"]]),
            pa.array([b"a"]),
            pa.array([b"abc"], pa.binary(3)),
        ],
    )
    def test_kinds_of_values_that_no_stage_writes(self, values: pa.Array, path: Path) -> None:
        pq.write_table(pa.table({"a": values}), path)
        with pytest.raises(DamagedFile, match="no table of a stage"):
            read_table(path)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sharpness", math.inf),
            ("change", -3e38),
            ("pts_time", math.nan),
            ("pts_time", 1e308),
        ],
    )
    def test_numbers_that_no_stage_writes(self, name: str, value: float, path: Path) -> None:
        rows = [frame_row(frame_index=index) | {name: value} for index in range(2)]
        table = pa.Table.from_pylist(rows, FRAMES_SCHEMA)
        write_table(path, table, FRAMES_SCHEMA, {})
        with pytest.raises(DamagedFile, match=f"its column {name} has implausible numbers"):
            read_table(path, schema=FRAMES_SCHEMA)

    def test_text_that_is_none(self, path: Path) -> None:
        broken = pa.array([b"\xff"]).view(pa.string())
        pq.write_table(pa.table({"file_name": broken}), path)
        with pytest.raises(DamagedFile, match="cannot be read"):
            read_table(path)


class TestOpenFile:
    def test_a_link_to_a_file_further_down_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "x").write_bytes(b"abc")
        write_link("r/x", tmp_path / "x")
        assert read_file(tmp_path / "x") == b"abc"

    @pytest.mark.parametrize(
        "target", ["{}/other", "../other", "r/../../other", "second", "r/second"]
    )
    def test_other_links_are_not(self, tmp_path: Path, target: str) -> None:
        (tmp_path / "other").write_bytes(b"secret")
        (tmp_path / "store" / "r").mkdir(parents=True)
        (tmp_path / "store" / "second").symlink_to("../other")
        (tmp_path / "store" / "r" / "second").symlink_to("../../other")
        link = tmp_path / "store" / "x"
        link.symlink_to(target.format(tmp_path))
        with pytest.raises(DamagedFile, match=f"{link} is damaged"):
            open_file(link)

    def test_what_is_no_file_is_damaged_and_nothing_waits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
        for name in ("pipe", "folder", "socket"):
            with pytest.raises(DamagedFile, match="it is a link, or not a file"):
                open_file(tmp_path / name)

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            open_file(tmp_path / "x")
