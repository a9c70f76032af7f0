from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from dataminer.cli.main import app
from dataminer.config.models import FilterConfig
from dataminer.errors import ConfigError, DataminerError
from dataminer.frames.table import FRAMES_FILE, write_table
from dataminer.preview.measures import gather_preview
from dataminer.preview.page import write_page
from dataminer.preview.strips import FRAMES, Cutter
from dataminer.stages.filter.scores import SCORES_FILE
from dataminer.stages.filter.stage import first_failed, load_frames
from dataminer.stages.filter.thresholds import MODEL_THRESHOLDS, QUALITY_NAMES
from dataminer.store.layout import Store
from tests.support.preview_project import PROJECT, add_video, rows_of
from tests.support.stores import frames_of

NOW = FilterConfig(min_sharpness=0.2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "data")
    for number, video_id in enumerate(("-a", "b", "c")):
        add_video(store, video_id, rows_of(video_id, 40, number))
    return store


def tags_of(text: str) -> tuple[set[str], set[str]]:
    tags: set[str] = set()
    attributes: set[str] = set()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            attributes.update(name for name, _ in attrs)

    Parser().feed(text)
    return tags, attributes


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


class TestCounts:
    @pytest.mark.parametrize("settings", [NOW, FilterConfig(), FilterConfig(max_black=0.7)])
    def test_are_those_of_the_filter(self, store: Store, settings: FilterConfig) -> None:
        preview = gather_preview(store, PROJECT, settings, settings)
        fails = preview.matrix(tried=False)
        first = np.where(fails.any(axis=0), fails.argmax(axis=0), -1)
        passes, rejected = 0, dict.fromkeys((each.threshold.name for each in preview.measured), 0)
        for video_id in ("-a", "b", "c"):
            failed = first_failed(load_frames(frames_of(store, video_id)), settings)
            passes += int((failed < 0).sum())
            for number, name in enumerate(QUALITY_NAMES):
                rejected[name] += int((failed == number).sum())
        assert (first < 0).sum() == passes > 0
        names = list(rejected)
        assert rejected == {name: int((first == names.index(name)).sum()) for name in names}
        assert rejected["min_change"] > 0

    def test_of_a_threshold_alone(self, store: Store) -> None:
        preview = gather_preview(store, PROJECT, NOW, NOW.model_copy(update={"min_sharpness": 0.4}))
        sharp = next(each for each in preview.measured if each.threshold.name == "min_sharpness")
        assert sharp.fails.sum() == (~(sharp.values >= np.float32(0.2))).sum()
        assert sharp.tried_fails.sum() > sharp.fails.sum() > 3

    @pytest.mark.parametrize("change", [{"min_change": 0.0}, {"min_sharpness": 0.4}], ids=str)
    def test_of_what_is_asked_for_are_those_once_it_is_configured(
        self, store: Store, change: dict[str, float]
    ) -> None:
        tried = NOW.model_copy(update=change)
        values = gather_preview(store, PROJECT, NOW, tried).matrix(tried=True)
        assert (values == gather_preview(store, PROJECT, tried, tried).matrix(tried=False)).all()
        assert (values != gather_preview(store, PROJECT, NOW, NOW).matrix(tried=False)).any()

    def test_of_a_sample(self, store: Store) -> None:
        preview = gather_preview(store, PROJECT, NOW, NOW, most_videos=2)
        assert [video.video_id for video in preview.videos] == ["-a", "c"]
        assert (preview.frames, preview.all_videos) == (80, 3)


class TestScores:
    SCORES = pa.schema(
        [
            pa.field("frame_index", pa.int32()),
            pa.field("score", pa.float32()),
            pa.field("junk", pa.float32()),
            pa.field("rejected", pa.dictionary(pa.int32(), pa.string())),
        ]
    )

    def test_are_read_by_frame_and_drawn(self, store: Store, tmp_path: Path) -> None:
        rows = [
            {"frame_index": index, "score": index / 40, "junk": None, "rejected": None}
            for index in reversed(range(39))  # in another order, and one frame is not there
        ]
        table = pa.Table.from_pylist(rows, schema=self.SCORES)
        path = store.filtered(PROJECT, "b") / SCORES_FILE
        write_table(path, table, self.SCORES, {})
        preview = gather_preview(store, PROJECT, NOW, NOW)
        (scored,) = (each for each in preview.measured if "semantic" in each.threshold.name)
        assert scored.threshold.column == "score"
        known = np.flatnonzero(~np.isnan(scored.values))
        assert known.tolist() == list(range(40, 79))
        assert scored.values[known] == pytest.approx(np.arange(39) / 40)
        write_page(tmp_path / "index.html", preview)
        assert 'id="semantic.min_score"' in (tmp_path / "index.html").read_text()

    def test_thresholds_count_where_a_model_looked(self) -> None:
        junk = next(each for each in MODEL_THRESHOLDS if each.column == "junk")
        excluded = next(each for each in MODEL_THRESHOLDS if each.column == "excluded")
        values = np.array([0.2, 0.5, 0.7, np.nan], np.float32)
        assert junk.fails(values, 0.5).tolist() == [False, False, True, True]
        assert excluded.fails(values, 0.5).tolist() == [False, True, True, True]

    def test_have_the_limits_of_sections_that_are_on(self) -> None:
        semantic = {"min_score": 0.3, "min_cosine": None, "min_margin": 1, "max_junk": 0.5}
        content = SimpleNamespace(on=False, confidence=0.4)
        for on in (True, False):
            settings = SimpleNamespace(
                semantic=SimpleNamespace(on=on, **semantic),
                content=content,
                text=SimpleNamespace(on=on, max_area=0.1),
            )
            limits = {each.rejects: each.limit(settings) for each in MODEL_THRESHOLDS}  # type: ignore[arg-type]
            assert limits["semantic.min_score"] == (0.3 if on else None)
            assert limits["semantic.min_margin"] == (1.0 if on else None)
            assert limits["semantic.min_cosine"] is None
            assert limits["content.exclude"] is None
            assert limits["text.max_area"] == (0.1 if on else None)


class TestDamagedFrames:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        store = Store(tmp_path / "data")
        for video_id, damaged in (("a", True), ("b", None)):
            rows = [{**row, "sharpness": 0.5} for row in rows_of(video_id, 12, 1)]
            for row in rows[3:5]:
                row["damaged"] = damaged
            add_video(store, video_id, rows)
        return store

    def test_are_counted_first_and_shown_without_a_measure(
        self, store: Store, tmp_path: Path
    ) -> None:
        preview = gather_preview(store, PROJECT, NOW, NOW)
        damaged = preview.measured[0]
        assert (damaged.threshold.name, damaged.fails.sum()) == ("damaged", 2)
        assert np.flatnonzero(damaged.values).tolist() == [3, 4]
        strips = Cutter(preview).strips(damaged)
        assert ([shot.seconds for shot in strips.rejected], strips.kept) == ([12.0, 16.0], ())
        write_page(tmp_path / "index.html", preview)
        section = (tmp_path / "index.html").read_text().split('<section id="damaged">')[1]
        section = section.partition("</section>")[0]
        assert "<dd>drop: 2 fail (8.3 %)</dd>" in section
        assert section.count("<figure") == 2 and "<svg" not in section
        assert "<figcaption>0:12.0<br>" in section

    def test_come_back_if_they_are_kept(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        ran = CliRunner().invoke(app, ["preview", PROJECT, "--set", "filter.damaged=keep"])
        assert ran.exit_code == 0, ran.exception
        assert re.search(r"damaged +drop +2 fail +tried keep\n", ran.stdout)
        page = (store.report(PROJECT) / "preview" / "index.html").read_text()
        section = page.split('<section id="damaged">')[1].partition("</section>")[0]
        assert '<span class="tried">keep</span>' in section
        assert section.count("<figure") == 2, "they can be looked at all the same"


class TestStrips:
    def test_are_the_nearest_on_each_side(self, store: Store) -> None:
        preview = gather_preview(store, PROJECT, NOW, NOW)
        sharp = next(each for each in preview.measured if each.threshold.name == "min_sharpness")
        strips = Cutter(preview).strips(sharp)
        assert len(strips.kept) == len(strips.rejected) == FRAMES
        kept = [shot.value for shot in strips.kept]
        rejected = [shot.value for shot in strips.rejected]
        assert kept == sorted(kept)
        assert rejected == sorted(rejected, reverse=True)
        assert min(kept) >= np.float32(0.2) > max(rejected)
        assert len({shot.video_id for shot in strips.kept}) > 1
        assert all(shot.picture.startswith("data:image/jpeg;base64,") for shot in strips.kept)

    def test_of_images_that_are_gone(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        add_video(store, "b", rows_of("b", 5, 1), images=False)
        write_page(tmp_path / "index.html", gather_preview(store, PROJECT, NOW, NOW))
        assert "the image is gone" in (tmp_path / "index.html").read_text()


class TestPage:
    def test_runs_no_text_of_strangers(self, store: Store, tmp_path: Path) -> None:
        tried = NOW.model_copy(update={"min_sharpness": 0.3})
        write_page(tmp_path / "index.html", gather_preview(store, PROJECT, NOW, tried))
        text = (tmp_path / "index.html").read_text()
        tags, attributes = tags_of(text)
        assert "&lt;script&gt;" in text
        assert tags.isdisjoint({"script", "iframe", "object", "link"})
        assert not [name for name in attributes if name.startswith("on")]
        assert not re.search(r'(?:src|href)="(?!data:image/jpeg|#)', text)

    def test_is_the_same_each_time(self, store: Store, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_page(tmp_path / name, gather_preview(store, PROJECT, NOW, NOW))
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class TestCommand:
    @pytest.fixture(autouse=True)
    def _here(self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_writes_its_page_and_nothing_else(self, store: Store, tmp_path: Path) -> None:
        before = files(tmp_path)
        ran = CliRunner().invoke(app, ["preview", PROJECT, "--set", "filter.min_sharpness=0.4"])
        assert ran.exit_code == 0, ran.exception
        page = store.report(PROJECT) / "preview" / "index.html"
        after = files(tmp_path)
        made = {store.report(PROJECT), page.parent, page}
        assert set(after) - set(before) == {tmp_path / path for path in made}
        changed = {path for path in before if before[path] != after[path]}
        assert changed <= {store.project(PROJECT)}
        assert re.search(r"min_sharpness +0.06 +\d+ fail +tried 0.4 +\d+ fail", ran.stdout)
        assert "frames pass with what is tried" in ran.stdout

    def test_writes_where_it_is_told_to(self, tmp_path: Path) -> None:
        ran = CliRunner().invoke(app, ["preview", PROJECT, "--to", "here"])
        assert "tried" not in ran.stdout
        assert (tmp_path / "here" / "index.html").is_file()

    @pytest.mark.parametrize(
        ("change", "printed"),
        [
            ("min_sharpness=0.1", "expected a threshold of the filter"),
            ("filter.min_sharpness", "expected a threshold of the filter"),
            ("dedup.threshold=3", "expected a threshold of the filter"),
            ("filter.min_sharpnes=0.1", "did you mean `min_sharpness`"),
            ("filter.min_sharpness=high", "filter.min_sharpness: must be a valid number"),
            ("filter.min_sharpness=[", "is not a value"),
            ("filter.min_brightness=0.99", "min_brightness must be below max_brightness"),
        ],
    )
    def test_says_what_is_wrong_with_a_setting(self, change: str, printed: str) -> None:
        ran = CliRunner().invoke(app, ["preview", PROJECT, "--set", change])
        assert isinstance(ran.exception, ConfigError)
        assert printed in str(ran.exception)


class TestNothingToSee:
    def test_no_project(self, tmp_path: Path) -> None:
        with pytest.raises(DataminerError, match="there is no project ghosts"):
            gather_preview(Store(tmp_path), "ghosts", NOW, NOW)

    def test_nothing_filtered_yet(self, tmp_path: Path) -> None:
        Store(tmp_path).project(PROJECT).mkdir(parents=True)
        with pytest.raises(DataminerError, match=r"no filtered videos yet.*snakemake --config"):
            gather_preview(Store(tmp_path), PROJECT, NOW, NOW)

    def test_no_frame(self, tmp_path: Path) -> None:
        add_video(Store(tmp_path), "b", [])
        with pytest.raises(DataminerError, match="no frame to preview"):
            gather_preview(Store(tmp_path), PROJECT, NOW, NOW)

    def test_one_video_without_frames_is_counted(self, store: Store, tmp_path: Path) -> None:
        (frames_of(store, "b") / FRAMES_FILE).unlink()
        (frames_of(store, "c") / FRAMES_FILE).write_bytes(b"PAR1")
        preview = gather_preview(store, PROJECT, NOW, NOW)
        assert (preview.frames, preview.unread) == (40, 2)
        write_page(tmp_path / "index.html", preview)
        assert "frames of 2 videos cannot be read" in (tmp_path / "index.html").read_text()

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("score", [1e308, float("inf"), "a", None])
    def test_scores_that_are_none_are_left_out_and_named(self, store: Store, score: Any) -> None:
        path = store.filtered(PROJECT, "b") / SCORES_FILE
        kind = pa.string() if score == "a" else pa.float64()
        scores = {"frame_index": pa.array([0], pa.int32()), "score": pa.array([score], kind)}
        table = pa.table(scores)
        write_table(path, table, table.schema, {}, ready=True)
        reported: list[str] = []
        gather_preview(store, PROJECT, NOW, NOW, leave_out=reported.append)
        damaged = isinstance(score, float)
        assert (
            reported == [f"{path} is damaged: its column score has implausible numbers"] * damaged
        )
        path.write_bytes(b"PAR1")
        gather_preview(store, PROJECT, NOW, NOW, leave_out=reported.append)
        assert "scores.parquet is damaged" in reported[-1]
