"""A video's frames from extract to the unique ones: as files and in archives, cropped, traced."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from dataminer.config import Config
from dataminer.config.models import DedupConfig, ExtractConfig, FilterConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.frames.images import ARCHIVE_FILE, FrameReader
from dataminer.frames.table import FRAMES_FILE, PROVENANCE, read_table
from dataminer.stages.dedup.stage import dedup
from dataminer.stages.extract.stage import extract
from dataminer.stages.filter.stage import filter_frames
from dataminer.sync.jobs import results
from dataminer.sync.jobs.extract import extract_task
from tests.support.videos import make_video

SOURCES: dict[str, dict[str, Any]] = {
    "one": {
        "title": "Über {0}; DROP TABLE …",
        "uploader": "Somebody",
        "licence": "CC BY 4.0",
        "upload_date": "20250102",
        "url": "https://example.org/1",
        "size_bytes": 3,
    },
    "two": {"title": None, "url": "two.mp4"},
}
TAR = ExtractConfig(strategy="interval", every_frames=10, frame_store="tar")
FILES = TAR.model_copy(update={"frame_store": "files"})


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    first = make_video(folder / "one.mp4", frames=60)
    second = make_video(folder / "two.mp4", frames=40, size=(200, 120))
    return {"one": first, "two": second}


def mine(clips: dict[str, Path], store: Path, settings: ExtractConfig) -> list[Path]:
    """Run extract, filter and dedup; returns the three kinds of folders, dedup's last."""
    folders = []
    for video_id, clip in clips.items():
        frames, filtered = store / "frames" / video_id, store / "filtered" / video_id
        frames.mkdir(parents=True)
        filtered.mkdir(parents=True)
        extract(clip, frames, video_id, settings, source=SOURCES[video_id])
        filter_frames(frames, filtered, FilterConfig(min_sharpness=0.05))
        folders.append(filtered)
    out = store / "dedup"
    out.mkdir()
    dedup(folders, out, DedupConfig(threshold=0, min_object=0))
    return [store / "frames" / "one", store / "filtered" / "one", out]


def content(folder: Path) -> dict[str, bytes]:
    with FrameReader(folder) as reader:
        return {name: reader.read(name) for name in reader.names}


def rows(folder: Path) -> list[dict[str, Any]]:
    reported = read_table(folder / FRAMES_FILE).to_pylist()
    return [{key: value for key, value in row.items() if key != "byte_offset"} for row in reported]


def test_archives_hold_what_files_hold_at_every_stage(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    as_files = mine(clips, tmp_path / "files", FILES)
    as_tar = mine(clips, tmp_path / "tar", TAR)
    for files, tar in zip(as_files, as_tar, strict=True):
        assert rows(files) == rows(tar)
        assert content(files) == content(tar)
        assert len(content(tar)) > 1
    listings = [{path.name for path in folder.glob("*[!t]")} for folder in as_tar]
    assert listings == [{ARCHIVE_FILE}, set(), {ARCHIVE_FILE}]
    assert len({row["video_id"] for row in rows(as_tar[2])}) == 2
    counts = [results.read_extract, results.read_filter, results.read_dedup]
    for read, files, tar in zip(counts, as_files, as_tar, strict=True):
        outcomes = read(files), read(tar)
        assert outcomes[0] and outcomes[1]
        assert outcomes[0].status == outcomes[1].status


def test_a_lost_archive_is_no_result(clips: dict[str, Path], tmp_path: Path) -> None:
    frames, filtered, unique = mine(clips, tmp_path, TAR)
    assert results.read_filter(filtered)
    (unique / ARCHIVE_FILE).unlink()
    (frames / ARCHIVE_FILE).write_bytes(b"")
    assert results.read_extract(frames) is None
    assert results.read_filter(filtered) is None
    assert results.read_dedup(unique) is None
    out = tmp_path / "again"
    out.mkdir()
    with pytest.raises(PermanentError, match="damaged") as caught:
        filter_frames(frames, out, FilterConfig())
    assert caught.value.error_class is ErrorClass.CORRUPT
    with pytest.raises(PermanentError, match="damaged"):
        dedup([filtered], out, DedupConfig())


def test_one_store_of_both_kinds_can_be_deduplicated(
    clips: dict[str, Path], tmp_path: Path
) -> None:
    files = mine({"one": clips["one"]}, tmp_path / "files", FILES)[1]
    tar = mine({"two": clips["two"]}, tmp_path / "tar", TAR)[2].parent / "filtered" / "two"
    out = tmp_path / "out"
    out.mkdir()
    result = dedup([tar, files], out, DedupConfig(threshold=0, min_object=0))
    expected = mine(clips, tmp_path / "whole", FILES)[2]
    assert content(out) == content(expected)
    assert result.unique == len(content(out))
    assert {path.suffix for path in out.iterdir()} == {".parquet", ".tar"}


def test_every_frame_tells_where_it_comes_from(clips: dict[str, Path], tmp_path: Path) -> None:
    for folder in mine(clips, tmp_path, FILES):
        for row in rows(folder):
            source = SOURCES[row["video_id"]]
            assert {key: row[key] for key in PROVENANCE} == {k: source.get(k) for k in PROVENANCE}
    assert read_table(folder / FRAMES_FILE)["title"].type.value_type == "string"


def test_a_title_that_is_no_text_is_mended(clips: dict[str, Path], tmp_path: Path) -> None:
    title = "half \ud83d, joined \ud83d\ude00"
    extract(clips["one"], tmp_path, "vid", TAR, source={"title": title, "uploader": 3})
    assert {(row["title"], row["uploader"]) for row in rows(tmp_path)} == {
        ("half ?, joined 😀", "3")
    }


def test_a_full_disk_is_not_the_videos_fault(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name == ARCHIVE_FILE:
            return opened(Path("/dev/full"), "wb")
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(TransientError) as caught:
        extract(clips["one"], tmp_path, "vid", TAR)
    assert caught.value.error_class is ErrorClass.DISK_FULL


def letterboxed(path: Path) -> Path:
    """A clip of 320x240 with 40 black lines above and below; its middle frames are all black."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(30):
            image = np.zeros((240, 320, 3), np.uint8)
            if index not in (10, 11):
                ramp = np.linspace(60, 220, 320, dtype=np.uint8)
                image[40:200] = np.tile(ramp, (160, 1))[..., None]
                cv2.circle(image, (60 + 6 * index, 120), 30, (240, 30, 30), -1)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("crop", [True, False])
def test_borders_are_cut_off_where_that_is_wanted(tmp_path: Path, crop: bool) -> None:
    clip = letterboxed(tmp_path / "clip.mp4")
    out = tmp_path / "out"
    out.mkdir()
    extract(clip, out, "vid", TAR.model_copy(update={"crop_borders": crop}))
    found = rows(out)
    sizes = [(320, 160 if crop else 240), (320, 240), (320, 160 if crop else 240)]
    assert [(row["width"], row["height"]) for row in found] == sizes
    with FrameReader(out) as reader:
        for row, (width, height) in zip(found, sizes, strict=True):
            data = np.frombuffer(reader.read(row["file_name"]), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
            assert image is not None
            assert image.shape == (height, width, 3)
    bars = [[row[f"border_{side}"] for side in ("left", "top", "right", "bottom")] for row in found]
    assert bars == [[0, 40, 0, 40], [0, 0, 0, 0], [0, 40, 0, 40]]
    assert [row["black"] for row in found] == [0, 1, 0]


def test_what_re_runs_extract() -> None:
    def fingerprint_of(info: dict[str, Any] | None = None, **settings: Any) -> str:
        config = Config.model_validate({"extract": settings})
        return extract_task(config, "vid", {"sha256": "a", **(info or {})}, 1).fingerprint

    assert fingerprint_of(info={"title": "another"}) == fingerprint_of()
    changed = [
        fingerprint_of(frame_store="tar"),
        fingerprint_of(crop_borders=True),
        fingerprint_of(info={"sha256": "b"}),
        fingerprint_of(),
    ]
    assert len(set(changed)) == 4
