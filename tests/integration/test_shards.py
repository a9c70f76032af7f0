"""Boxes in shards: one result whoever makes them, and only what changed is made again."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import pytest

from dataminer.config.models import DetectConfig
from dataminer.errors import PermanentError
from dataminer.frames.table import FRAMES_FILE
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.detect import shards
from dataminer.stages.detect.stage import detect
from tests.support.detect_frames import FRAMES, Objects, row, write_rows

pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="no ultralytics")
SETTINGS = DetectConfig(image_size=160, batch=2, shard_images=2, device="cpu")


@pytest.fixture
def planned(
    drawn: tuple[Path, Objects], shapes_weights: Path, tmp_path: Path
) -> Callable[..., shards.ShardPlan]:
    """Plan the drawn frames; shards lie in a folder of the given name."""

    def make(name: str = "shards", dedup: Path = drawn[0], **settings: Any) -> shards.ShardPlan:
        changed = SETTINGS.model_copy(update=settings)
        return shards.divide_into_shards(dedup, tmp_path / name, shapes_weights, changed)

    return make


def files(folder: Path) -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Return contents, and what tells a new file: its inode may be that of one which is gone."""
    found = {path.name: (path, path.stat()) for path in folder.iterdir()}
    return {n: (p.read_bytes(), (s.st_ino, s.st_mtime_ns)) for n, (p, s) in found.items()}


def dataset(plan: shards.ShardPlan, out: Path) -> list[str]:
    """Make a dataset, and return the names of its files."""
    out.mkdir()
    detect(plan, out)
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def test_the_parts_of_several_jobs_are_what_one_job_makes(
    planned: Callable[..., shards.ShardPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, many = planned("one"), planned("many", jobs=3, shard_images=2)
    assert len(one.shards) >= 4 and one.shards == many.shards
    names = dataset(one, tmp_path / "out_one")
    for part in (2, 0, 1):
        shards.make(many, part=part, parts=3, threads=2)
    assert {n: c for n, (c, _) in files(many.folder).items()} == {
        n: c for n, (c, _) in files(one.folder).items()
    }

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded to put together what was there")

    monkeypatch.setattr(shards, "open_detector", fail)
    assert dataset(many, tmp_path / "out_many") == names
    outs = tmp_path / "out_one", tmp_path / "out_many"
    assert filecmp.cmpfiles(*outs, names, shallow=False) == (names, [], [])


def test_only_missing_and_damaged_shards_are_made(
    planned: Callable[..., shards.ShardPlan], tmp_path: Path
) -> None:
    plan = planned()
    reported: list[str] = []
    names = dataset(plan, tmp_path / "whole")
    before = files(plan.folder)
    gone, cut, foreign = (plan.folder / f"{shard.key}.json" for shard in plan.shards[:3])
    gone.unlink()
    cut.write_bytes(before[cut.name][0][:-7])
    foreign.write_text('{"names": [], "boxes": {}}')
    (tmp_path / "resumed").mkdir()
    detect(plan, tmp_path / "resumed", progress=reported.append)
    after = files(plan.folder)
    assert {n: c for n, (c, _) in after.items()} == {n: c for n, (c, _) in before.items()}
    rebuilt = {name for name, (_, inode) in after.items() if before[name][1] != inode}
    assert rebuilt == {gone.name, cut.name, foreign.name}
    frames = sum(len(shard.frames) for shard in plan.shards[:3])
    assert reported[-1] == f"detect: {frames} of {frames} frames"
    outs = tmp_path / "whole", tmp_path / "resumed"
    assert filecmp.cmpfiles(*outs, names, shallow=False) == (names, [], [])


def test_a_part_that_fails_keeps_what_came_before(
    planned: Callable[..., shards.ShardPlan], drawn: tuple[Path, Objects], tmp_path: Path
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(drawn[0], folder)
    last = planned().frames[-1].file_name
    (folder / last).write_bytes(b"no picture")
    plan = planned(dedup=folder)
    with pytest.raises(PermanentError, match=last):
        shards.make(plan)
    assert len(list(plan.folder.iterdir())) == len(plan.shards) - 1


def test_what_a_shard_is_named_after(
    planned: Callable[..., shards.ShardPlan], drawn: tuple[Path, Objects], tmp_path: Path
) -> None:
    def keys(plan: shards.ShardPlan) -> list[str]:
        return [shard.key for shard in plan.shards]

    usual = keys(planned())
    assert keys(planned(batch=7, jobs=5, device="auto")) == usual
    for changed in ({"confidence": 0.4}, {"image_size": 320}, {"prompts": ["a disc"]}):
        assert not set(keys(planned(**changed))) & set(usual)
    folder = tmp_path / "other"
    shutil.copytree(drawn[0], folder)
    name = planned().shards[1].frames[0].file_name
    image = cv2.imread(str(folder / name))
    assert image is not None
    cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    reencoded = keys(planned(dedup=folder))
    assert [here == there for here, there in zip(usual, reencoded, strict=True)].count(False) == 1


def test_a_shard_is_of_its_pictures_and_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, weights = tmp_path / "dedup", tmp_path / "model.pt"
    folder.mkdir()
    weights.write_bytes(b"weights")
    rows = [row(f"a_{index:06d}.jpg", ("a", index, 64, 64)) for index in range(40)]
    for each in rows:
        (folder / each["file_name"]).touch()

    def keys(changes: dict[str, Any] | None = None) -> list[str]:
        write_rows(folder, [rows[0] | (changes or {}), *rows[1:]])
        settings = SETTINGS.model_copy(update={"shard_images": 10})
        return [
            shard.key
            for shard in shards.divide_into_shards(folder, tmp_path, weights, settings).shards
        ]

    usual = keys()
    assert keys() == usual and len(usual) >= 3
    seen = {usual[0]}
    changes: list[dict[str, Any]] = [
        {"width": 65},
        {"height": 65},
        {"sharpness": 0.51},
        {"brightness": 0.51},
        {"contrast": 0.21},
        {"entropy": 7.1},
        {"phash": 1},
        {"dhash": 1},
    ]
    for change in changes:
        first, *others = keys(change)
        assert others == usual[1:]
        assert first not in seen, change
        seen.add(first)
    assert keys({"flash": 0.9, "change": 0.9}) == usual, "of the video, not of the picture"
    weights.write_bytes(b"retrain")  # of the same name and size
    retrained = keys()
    monkeypatch.setitem(VERSIONS, "detect", VERSIONS["detect"] + 1)
    assert len({*usual, *retrained, *keys()}) == 3 * len(usual)


def test_a_video_more_changes_few_shards(shapes_weights: Path, tmp_path: Path) -> None:
    def plan(videos: list[str]) -> shards.ShardPlan:
        folder = tmp_path / f"dedup{len(videos)}"
        folder.mkdir()
        frames = [(video, index, 64, 64) for video in videos for index in range(40)]
        rows = [row(f"{frame[0]}_{frame[1]:06d}.jpg", frame) for frame in frames]
        for each in rows:
            (folder / each["file_name"]).touch()
        write_rows(folder, rows)
        settings = SETTINGS.model_copy(update={"shard_images": 100})
        return shards.divide_into_shards(folder, tmp_path, shapes_weights, settings)

    few = [f"v{number:03d}" for number in range(0, 100, 2)]
    before, after = plan(few), plan(sorted([*few, "v051"]))
    assert len(before.frames) == 2000 and len(after.frames) == 2040
    assert [f.file_name for f in after.frames] == sorted(f.file_name for f in after.frames)
    assert all(len(shard.frames) <= 200 for shard in after.shards)
    assert 10 <= len(before.shards) <= 40
    rebuilt = {shard.key for shard in after.shards} - {shard.key for shard in before.shards}
    assert 1 <= len(rebuilt) <= 3


def test_what_is_not_used_any_more_is_deleted(planned: Callable[..., shards.ShardPlan]) -> None:
    old, new = planned(confidence=0.5), planned()
    shards.prune(new)  # of a folder that is not there
    for plan in (old, new):
        shards.make(plan)
    half = new.folder / f".{'0' * 12}.partial.json"
    marker = new.folder / "0-of-2.done"
    for path in (half, marker):
        path.touch()
    shards.prune(new)
    wanted = {f"{shard.key}.json" for shard in new.shards} | {marker.name}
    assert {path.name for path in new.folder.iterdir()} == wanted


def test_what_was_made_before_a_run_that_makes_it_anew_counts_as_absent(
    planned: Callable[..., shards.ShardPlan],
) -> None:
    plan = planned()
    shards.make(plan)
    files = {shard: plan.folder / f"{shard.key}.json" for shard in plan.shards}
    for file in files.values():
        os.utime(file, (1000, 1000))
    forced = replace(plan, forced_since=2000.0)
    assert all(shards.read_boxes(plan, shard) for shard in files)
    assert not any(shards.read_boxes(forced, shard) for shard in files)
    shards.make(forced)
    made = [file.stat().st_mtime_ns for file in files.values()]
    assert min(made) > 2000 * 10**9
    shards.make(forced)  # by a job of the same run: they are there
    assert [file.stat().st_mtime_ns for file in files.values()] == made


def test_frames_are_all_there_once(planned: Callable[..., shards.ShardPlan]) -> None:
    names = [frame.file_name for frame in planned().frames]
    assert names == sorted(f"{video}_{index:06d}.jpg" for video, index, *_ in FRAMES)
    assert (planned().dedup_dir / FRAMES_FILE).is_file()
