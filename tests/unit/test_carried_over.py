"""Kept frames stay kept, only new frames cost anything, and those of a lost one start again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataminer.config.models import DedupConfig
from dataminer.frames.table import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    read_meta,
    read_table,
    write_table,
)
from dataminer.stages.dedup import stage
from dataminer.stages.dedup.carried_over import CarriedOver, carry_over
from dataminer.stages.dedup.stage import DedupResult, dedup
from tests.support.frame_rows import frame_row
from tests.support.hashes import scenes

FAR = 0xFFFF_FFFF_0000_0000


class Project:
    """A project's filtered frames, and dedup run over them again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out = root / "none"
        self.printed: list[str] = []

    def video(self, video_id: str, frames: list[dict[str, Any]]) -> None:
        """Put a video there, or others of its frames."""
        folder = self.root / "filtered" / video_id
        folder.mkdir(parents=True, exist_ok=True)
        rows = [frame_row(**{"video_id": video_id, "dhash": 0, **frame}) for frame in frames]
        table = pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA)
        write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {"stage": "filter"})
        for row in rows:
            (folder / row["file_name"]).touch()

    def dedup(self, previous: bool = True, **settings: Any) -> DedupResult:
        folders = sorted((self.root / "filtered").iterdir())
        before, self.out = self.out, self.root / f"out{len(self.printed)}"
        self.out.mkdir()
        chosen = DedupConfig.model_validate({"hash": "phash", "min_object": 0, **settings})
        return dedup(
            folders,
            self.out,
            chosen,
            previous=before if previous else None,
            progress=self.printed.append,
        )

    def kept(self) -> list[tuple[str, int]]:
        rows = read_table(self.out / FRAMES_FILE, ["video_id", "frame_index"]).to_pylist()
        return [(row["video_id"], row["frame_index"]) for row in rows]

    def standing(self) -> dict[tuple[str, int], tuple[str, int, float]]:
        rows = read_table(self.out / CLUSTERS_FILE, CLUSTERS_SCHEMA.names[:5]).to_pylist()
        return {(v, i): (k, j, d) for v, i, k, j, d in (tuple(row.values()) for row in rows)}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def frame(index: int, phash: int, sharpness: float = 0.5, **values: Any) -> dict[str, Any]:
    return {"frame_index": index, "phash": phash, "sharpness": sharpness, **values}


def counts(result: DedupResult) -> tuple[int, int, int, int, int]:
    return (result.frames, result.unique, result.pinned, result.carried, result.judged)


def test_what_was_kept_stays_kept_though_a_sharper_one_comes(project: Project) -> None:
    project.video("b", [frame(0, 0, 0.5), frame(1, 1, 0.4)])
    assert counts(project.dedup()) == (2, 1, 0, 0, 2)
    project.video("a", [frame(0, 0, 0.9), frame(1, FAR, 0.1)])
    assert counts(project.dedup()) == (4, 2, 1, 1, 2)
    assert project.kept() == [("a", 1), ("b", 0)]
    assert project.standing()["a", 0] == ("b", 0, 0)
    assert project.standing()["b", 1] == ("b", 0, 1)
    assert counts(project.dedup(previous=False)) == (4, 2, 0, 0, 4)
    assert project.kept() == [("a", 0), ("a", 1)]


def test_without_news_nothing_is_compared_and_nothing_changes(project: Project) -> None:
    project.video("a", [frame(i, i) for i in range(5)])
    project.dedup()
    before = read_table(project.out / CLUSTERS_FILE).to_pylist()
    result = project.dedup()
    assert (counts(result), result.compared) == ((5, 1, 1, 4, 0), 0)
    assert read_table(project.out / CLUSTERS_FILE).to_pylist() == before


def frames_of(videos: int, hashes: list[int]) -> pa.Table:
    """Make the frames of many videos, three each, as dedup has them once they are read."""
    rows = [
        frame_row(f"v{number:04d}", index, phash=each, dhash=each ^ 0xFF00)
        for number in range(videos)
        for index, each in enumerate(hashes[3 * number : 3 * number + 3])
    ]
    return pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA)


def test_one_video_more_does_not_compare_the_thousand_again() -> None:
    hashes = scenes(np.random.default_rng(1), 3003, 10, 2).tolist()
    settings = DedupConfig(hash="both", min_object=0)
    comparison = stage._Comparison(settings, None, [], Path(), print, 1)
    before = frames_of(1000, hashes)
    choice, first = stage._find_representatives(before, comparison, CarriedOver.none(3000))
    clusters = stage._clusters(before, choice, settings)
    assert first.judged == 3000
    assert 300 < first.unique < 3000
    after = frames_of(1001, hashes)
    choice, then = stage._find_representatives(after, comparison, carry_over(after, clusters))
    assert (then.frames, then.judged, then.pinned) == (3003, 3, first.unique)
    assert then.carried == 3000 - first.unique
    # both kinds of hashes: each new frame with those kept before, and the new among themselves
    assert then.compared <= 2 * 3 * (first.unique + 3)
    assert stage._clusters(after, choice, settings).slice(0, 3000).equals(clusters)


def test_what_was_compared_is_told_and_noted(project: Project) -> None:
    project.video("a", [frame(i, i % 3) for i in range(40)])
    assert project.dedup().judged == 40
    project.video("b", [frame(0, FAR), frame(1, 0)])
    then = project.dedup()
    assert counts(then) == (42, 2, 1, 39, 2)
    # each with the one kept before and with each other, and that once more within their block
    assert 1 <= then.compared <= 2 * 1 + 2 * 2 + 1
    assert project.printed[-1] == (
        "2 of 42 frames are unique; 1 stay kept and 39 dropped as before; "
        f"2 judged by comparing {then.compared} pairs"
    )
    for name in (FRAMES_FILE, CLUSTERS_FILE):
        meta = read_meta(project.out / name)
        assert (meta["judged"], meta["compared"]) == (2, then.compared)


def test_the_same_history_gives_the_same_bytes(project: Project, tmp_path: Path) -> None:
    hashes = scenes(np.random.default_rng(2), 60, 6, 2).tolist()
    project.video("b", [frame(i, hashes[i]) for i in range(30)])
    project.dedup()
    first = project.out
    project.video("a", [frame(i, hashes[30 + i]) for i in range(30)])
    made = set()
    for _ in range(2):
        project.out = first
        project.dedup()
        made.add(tuple((project.out / name).read_bytes() for name in (FRAMES_FILE, CLUSTERS_FILE)))
    assert len(made) == 1


def test_frames_of_a_lost_representative_are_judged_again(project: Project) -> None:
    project.video("a", [frame(0, 0, 0.9)])
    project.video("b", [frame(0, 0b1, 0.2), frame(1, 0b11, 0.3), frame(2, FAR)])
    project.dedup()
    assert project.kept() == [("a", 0), ("b", 2)]
    project.video("a", [])
    assert counts(project.dedup()) == (3, 2, 1, 0, 2)
    assert project.kept() == [("b", 1), ("b", 2)]
    assert project.standing()["b", 0] == ("b", 1, 1)


def test_a_video_that_went_takes_its_frames_along(project: Project) -> None:
    project.video("a", [frame(0, 0, 0.9), frame(1, 1)])
    project.video("b", [frame(0, 0b11, 0.2)])
    project.dedup()
    project.video("a", [frame(1, 1)])
    for path in sorted((project.root / "filtered" / "b").iterdir()):
        path.unlink()
    (project.root / "filtered" / "b").rmdir()
    assert counts(project.dedup()) == (1, 1, 0, 0, 1)
    assert project.kept() == [("a", 1)]


def test_a_frame_with_another_picture_is_judged_again(project: Project) -> None:
    project.video("a", [frame(0, 0, 0.9), frame(1, FAR, 0.9), frame(2, 0b1)])
    project.dedup()
    assert project.kept() == [("a", 0), ("a", 1)]
    # extracted again: the first frame is now like the second, and no longer represents the third
    project.video("a", [frame(0, FAR, 0.95), frame(1, FAR, 0.9), frame(2, 0b1)])
    assert counts(project.dedup()) == (3, 2, 1, 0, 2)
    assert project.kept() == [("a", 1), ("a", 2)]
    # pinned by one hash, and distinguished by the other
    project.video("a", [frame(1, FAR, 0.9, dhash=5), frame(2, 0b1)])
    assert counts(project.dedup())[2:] == (1, 0, 1)


def test_frames_let_in_later_join_those_kept(project: Project) -> None:
    project.video("a", [frame(4, 0, 0.2)])
    project.dedup()
    project.video("a", [frame(2, 1, 0.9), frame(4, 0, 0.2), frame(6, FAR)])
    assert counts(project.dedup()) == (3, 2, 1, 0, 2)
    assert project.kept() == [("a", 4), ("a", 6)]


@pytest.mark.parametrize("settings", [{"threshold": 2}, {"hash": "both"}])
def test_with_other_settings_all_are_judged_again(
    project: Project, settings: dict[str, Any]
) -> None:
    project.video("a", [frame(0, 0, 0.2), frame(1, 0b11, 0.9)])
    project.dedup(threshold=4)
    project.video("b", [frame(0, FAR)])
    result = project.dedup(**{"threshold": 4, **settings})
    assert counts(result)[2:] == (0, 0, 3)
    assert "the settings or the method have changed" in "".join(project.printed)


def test_a_damaged_choice_is_reported_and_made_again(project: Project) -> None:
    project.video("a", [frame(0, 0)])
    project.dedup()
    (project.out / CLUSTERS_FILE).write_bytes(b"PAR1")
    assert counts(project.dedup()) == (1, 1, 0, 0, 1)
    assert any("clusters.parquet is damaged" in printed for printed in project.printed)


def test_all_gone_and_all_back(project: Project) -> None:
    project.video("a", [frame(0, 0), frame(1, FAR)])
    project.dedup()
    project.video("a", [])
    assert counts(project.dedup()) == (0, 0, 0, 0, 0)
    project.video("a", [frame(0, 0), frame(1, FAR)])
    assert counts(project.dedup()) == (2, 2, 0, 0, 2)
