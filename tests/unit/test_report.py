"""The report: what it reads, and that nothing in it is read as markup."""

from __future__ import annotations

import re
import struct
import tomllib
import zlib
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from jinja2 import UndefinedError, nodes
from markupsafe import Markup
from PIL import Image

import dataminer
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_table, write_table
from dataminer.report.data.costs import costs
from dataminer.report.data.facts import ProjectFacts, VideoFacts
from dataminer.report.data.gather import PER_REASON, gather
from dataminer.report.html import charts
from dataminer.report.html.markup import environment, text
from dataminer.report.html.overview import duration
from dataminer.report.html.page import page, write_report
from dataminer.report.html.thumbs import Thumbnails
from dataminer.stages.filter.scores import SCORES_FILE
from dataminer.store.layout import Store
from dataminer.urls import SourceUrl
from tests.support.report_project import draw_pictures, make_project

TEMPLATES = sorted(Path(dataminer.__file__).parent.rglob("*.jinja"))
FILTERS = {"length", "number", "thousands"}  # they return numbers
HOSTILE = "</title><script>alert('x')</script>\" onload='y' <img src=//evil.example>\x00\u202e&amp;"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


class Tags(HTMLParser):
    """The elements of a page, in order, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1.0 min"),
        (90, "1.5 min"),
        (3599, "60.0 min"),
        (3600, "1.0 h"),
        (5400, "1.5 h"),
        (4_320_000, "1,200.0 h"),
    ],
)
def test_durations_are_told_in_their_unit(seconds: float, printed: str) -> None:
    assert duration(seconds) == printed


def drawn_from(template: str, **values: Any) -> str:
    return environment().from_string(template).render(values)


class TestMarkup:
    def test_text_and_attributes_are_escaped(self) -> None:
        made = drawn_from('<p title="{{ text }}">{{ text }}</p>', text=HOSTILE)
        assert [name for name, _ in Tags(made).found] == ["p"]
        assert "\x00" not in made
        assert "\u202e" not in made
        assert "&amp;amp;" in made

    def test_markup_stays_markup(self) -> None:
        template = "{% macro b(x) %}<b>{{ x }}</b>{% endmacro %}<p>{{ b('<') }}{{ i }}{{ no }}</p>"
        made = drawn_from(template, i=Markup("<i>x</i>"), no=None)
        assert made == "<p><b>&lt;</b><i>x</i></p>"

    def test_attributes(self) -> None:
        assert drawn_from('<rect x="{{ x|number }}">', x=1 / 3) == '<rect x="0.33">'
        assert drawn_from('<rect x="{{ x|number }}">', x=90.0) == '<rect x="90">'
        assert text("a\nb") == "a\nb"

    def test_texts_are_bounded(self) -> None:
        assert drawn_from("{{ x }}", x=3000 * "\u202e" + "b") == 333 * "\\u202e" + "\\…"

    def test_a_value_that_a_template_does_not_get_is_an_error(self) -> None:
        with pytest.raises(UndefinedError):
            drawn_from("{{ x }}")

    def test_lines_of_a_template_are_joined(self) -> None:
        template = """
          <p>
            one
            two {% if x %}
              <b class="c"
                id="d">{{ x }}</b>{{ "\\n" }}
            {% endif %}
            , three
          </p>
        """
        assert drawn_from(template, x="4\n5") == (
            '<p>one two <b class="c" id="d">4\n5</b>\n, three</p>'
        )

    @pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
    def test_templates_never_join_text_with_markup(self, template: Path) -> None:
        """That would escape the text without making it inert."""
        parsed = environment(template.parent).parse(template.read_text(encoding="utf-8"))
        assert {each.name for each in parsed.find_all(nodes.Filter)} <= FILTERS
        assert not list(parsed.find_all((nodes.Concat, nodes.Add, nodes.Mod)))

    def test_an_installation_has_the_files_of_all_pages(self) -> None:
        package = Path(dataminer.__file__).parent
        project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
        patterns = project["tool"]["setuptools"]["package-data"]["dataminer"]
        installed = {path for pattern in patterns for path in package.glob(pattern)}
        rooms = ("report/html", "preview", "monitor/web")
        files = {path for room in rooms for path in package.joinpath(room).rglob("*.*")}
        files = {path for path in files if path.suffix not in (".py", ".pyc")}
        assert installed >= files >= set(TEMPLATES)


class TestCharts:
    def test_bars_are_as_high_as_their_counts_whatever_the_scale(self) -> None:
        values = np.array([1, 1, 1, 1, 3, 3])
        made = charts.histogram(values, label="x", whole=True)
        heights = [float(h) for h in re.findall(r"v-([\d.]+)h", made)]
        assert heights[0] / heights[1] == pytest.approx(2, rel=0.01)

    def test_a_threshold_outside_the_axis_is_told_with_an_arrow(self) -> None:
        values = np.linspace(0.5, 0.6, 50)
        far = charts.histogram(values, label="x", limits={"min": 0.05})
        near = charts.histogram(values, label="x", limits={"min": 0.48})
        assert "← min 0.05" in far
        assert 'class="limit"' in near
        assert "←" not in near

    @pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], [np.float32(3)] * 3])
    def test_few_or_equal_values_can_be_drawn(self, values: list[float]) -> None:
        assert "nan" not in charts.histogram(np.array(values, float), label="x")
        assert "nan" not in charts.histogram(np.array(values, int), label="x", whole=True)

    def test_the_funnel_tells_shares_and_survives_zero(self) -> None:
        assert "25% stay" in charts.funnel([("a", 400), ("b", 100), ("c", 0), ("d", 0)], "x")


class TestCosts:
    def test_adds_up_the_results_of_one_project(self, tmp_path: Path) -> None:
        def cost(seconds: float, cpu: float, peak: float) -> dict[str, float]:
            return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak, "bytes": 1}

        def video(name: str, **of_stages: dict[str, float]) -> VideoFacts:
            url = SourceUrl(f"/{name}.mp4")
            return VideoFacts(name, url, None, "EXTRACTED", "FILTERED", costs=of_stages)

        videos = (
            video("v1", download=cost(2.5, 1.5, 100), filter=cost(1.0, 0, 50)),
            video("v2", filter=cost(3.0, 2, 70)),
            video("v3"),
        )
        for name, row in {
            "weights/m.pt.tsv": "4\t0\t1\tNA",
            "weights/n.pt.tsv": "",
            "dedup/p.tsv": "99\t0\t99\t99",
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{row}\n")
        (tmp_path / "weights/o.pt.tsv").write_bytes(b"\xff\xfe")
        facts = ProjectFacts("p", "COMPLETE", videos, {"detect": cost(7, 8, 9)})
        weights, download, filtered, detect = costs(tmp_path, facts)
        assert (weights.stage, weights.seconds, weights.cpu_seconds) == ("weights", 4.0, 0.0)
        assert (download.stage, download.results, download.seconds) == ("download", 1, 2.5)
        assert (filtered.results, filtered.seconds, filtered.slowest) == (2, 4.0, 3.0)
        assert (filtered.cpu_seconds, filtered.peak_mb) == (2.0, 70.0)
        assert (detect.stage, detect.peak_mb) == ("detect", 9)


def section_of(drawn: str, key: str) -> str:
    """Return the markup of one section of a page."""
    return drawn.split(f'<section id="{key}">')[1].partition("</section>")[0]


class TestPage:
    def test_tells_the_numbers_of_the_files(self, store: Store) -> None:
        facts = make_project(store, "birds", videos=3, frames=40)
        found = gather(store, facts, {}, store.root)
        frames, merged, objects = found.frames, found.merged, found.objects
        assert merged
        assert objects
        good = sum(frames.passed.values())
        assert good + frames.reasons.total() == sum(frames.extracted.values()) == 120
        assert merged.frames == good
        assert merged.unique == len(objects.per_frame) == sum(objects.images.values())
        assert merged.sizes.sum() == good
        assert len(merged.distances) == good - merged.unique
        sharp = frames.columns["sharpness"]
        assert (sharp.kept >= np.float32(0.06)).all()
        assert len(sharp.kept) == good
        assert sharp.limits == {"min_sharpness": 0.06}
        assert {len(shots) for shots in frames.dropped.values()} <= set(range(1, PER_REASON + 1))
        drawn = page(found, Thumbnails(store, "birds"))
        assert f"{good:,} good enough" in drawn
        assert f"{len(objects.boxes):,} objects in" in drawn

    def test_frames_are_judged_as_they_were_and_not_by_what_is_configured_now(
        self, store: Store
    ) -> None:
        facts = make_project(store, "birds", videos=2, frames=40)
        before = gather(store, facts, {}, store.root).frames
        strict = {"filter": {"min_sharpness": 0.2}}
        assert gather(store, facts, strict, store.root).frames.reasons == before.reasons
        for video_id in before.extracted:  # of an older version, which did not say
            path = store.filtered("birds", video_id) / FRAMES_FILE
            write_table(path, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, {})
        now = gather(store, facts, strict, store.root).frames
        assert now.reasons["min_sharpness"] > before.reasons["min_sharpness"] > 0

    def test_scores_of_any_model_are_drawn_and_their_reasons_counted(self, store: Store) -> None:
        facts = make_project(store, "birds", videos=1, frames=10)
        before = gather(store, facts, {}, store.root).frames
        schema = pa.schema(
            [("frame_index", pa.int32()), ("bird", pa.float32()), ("rejected", pa.string())]
        )
        rows = {
            "frame_index": list(range(10)),
            "bird": [0.1 * n for n in range(9)] + [None],
            "rejected": ["min_bird"] * 10,
        }
        path = store.filtered("birds", "video00000") / SCORES_FILE
        write_table(path, pa.table(rows, schema=schema), schema, {})
        after = gather(store, facts, {}, store.root).frames
        assert after.reasons == before.reasons + Counter(min_bird=before.passed["video00000"])
        assert len(after.columns["bird"].dropped) == 9

    def test_what_was_lost_or_converted_is_counted_with_the_videos_behind_it(
        self, store: Store
    ) -> None:
        noted = {"tone_mapped": 1200, "lost_packets": 1, "torn_slices": 2}
        facts = make_project(store, "birds", videos=3, frames=10, notes=noted)
        older = store.recipe("video00002", "r") / FRAMES_FILE
        write_table(older, read_table(older), FRAMES_SCHEMA, {})
        found = gather(store, facts, {}, store.root)
        assert found.frames.notes == dict.fromkeys(("video00000", "video00001"), noted)
        assert found.frames.without_notes == 1
        section = section_of(page(found, Thumbnails(store, "birds")), "notes")
        kinds = ["2 packets gave no frame", "4 torn slices (a kind that this", "2,400 frames were"]
        assert sorted(kinds, key=section.index) == kinds
        assert section.index("Lost, or mended") < section.index(kinds[0])
        assert section.index(kinds[1]) < section.index("Converted") < section.index(kinds[2])
        assert section.count(">video00001</a>") == 3
        assert "2 of 2 videos have any" in section
        assert "Not counted: the frames of 1 video, which an older version extracted" in section

    def test_that_nothing_was_lost_is_said(self, store: Store) -> None:
        found = gather(store, make_project(store, "birds", 2, 10), {}, store.root)
        section = section_of(page(found, Thumbnails(store, "birds")), "notes")
        assert "Nothing was lost, mended or converted in the frames of 2 videos." in section

    def test_any_kinds_of_notes_of_many_videos_stay_a_small_section(self, store: Store) -> None:
        noted = {f"kind_{n}": n + 1 for n in range(100)}
        facts = make_project(store, "birds", videos=40, frames=1, notes=noted)
        found = gather(store, facts, {}, store.root)
        section = section_of(page(found, Thumbnails(store, "birds")), "notes")
        assert "70 more kinds are not shown" in section
        assert section.count("30 of 40 are listed") == 30
        assert len(section) < 300_000

    def test_damaged_frames_are_a_reason_with_examples(self, store: Store) -> None:
        facts = make_project(store, "birds", videos=1, frames=10)
        before = gather(store, facts, {}, store.root).frames
        path = store.recipe("video00000", "r") / FRAMES_FILE
        table, position = read_table(path), FRAMES_SCHEMA.get_field_index("damaged")
        damaged = pa.array([True, None, False] + [True] * 7)
        table = table.set_column(position, "damaged", damaged)
        write_table(path, table, FRAMES_SCHEMA, {"notes": {"damaged_frames": 8}})
        found = gather(store, facts, {}, store.root)
        assert before.reasons["damaged"] == 0
        assert found.frames.reasons["damaged"] == 8
        assert sum(found.frames.passed.values()) + found.frames.reasons.total() == 10
        assert {shot.note for shot in found.frames.dropped["damaged"]} == {""}
        assert "damaged" not in found.frames.columns
        assert "<code>damaged</code> 8 frames" in page(found, Thumbnails(store, "birds"))

    def test_the_same_files_give_the_same_bytes(self, store: Store, tmp_path: Path) -> None:
        facts = make_project(store, "birds", videos=2, frames=20)
        draw_pictures(store, gather(store, facts, {}, store.root))
        sizes = {write_report(store, facts, tmp_path / name) for name in ("a.html", "b.html")}
        assert len(sizes) == 1
        assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()

    def test_pictures_stop_where_their_bytes_are_spent(self, store: Store) -> None:
        facts = make_project(store, "birds", videos=2, frames=60)
        found = gather(store, facts, {}, store.root)
        draw_pictures(store, found)
        thumbs = Thumbnails(store, "birds", budget=60_000)
        drawn = page(found, thumbs)
        uris = re.findall(r'src="(data:image[^"]+)"', drawn)
        assert 0 < sum(map(len, uris)) <= 60_000
        assert "not shown" in drawn

    def test_a_link_in_the_place_of_a_picture_is_not_followed(
        self, store: Store, tmp_path: Path
    ) -> None:
        facts = make_project(store, "birds", videos=2, frames=60)
        found = gather(store, facts, {}, store.root)
        draw_pictures(store, found)
        for number, path in enumerate(store.root.rglob("*.jpg")):
            path.rename(tmp_path / f"{number}.jpg")
            path.symlink_to(tmp_path / f"{number}.jpg")
        assert "data:image/jpeg" not in page(found, Thumbnails(store, "birds"))

    def test_a_project_without_any_file_is_a_page_too(self, store: Store, tmp_path: Path) -> None:
        write_report(store, ProjectFacts("none", "POPULATING"), tmp_path / "x.html")
        drawn = (tmp_path / "x.html").read_text()
        assert "Dedup and detect have not run yet. Next: `snakemake --config project=none`" in drawn

    def test_what_strangers_wrote_is_text(self, store: Store, tmp_path: Path) -> None:
        made = make_project(store, "birds", videos=2, frames=30)
        error = f"{HOSTILE} Next: {HOSTILE}"
        videos = (
            VideoFacts(
                "video00000", SourceUrl(f"https://x/{HOSTILE}"), HOSTILE, "EXTRACTED", "FILTERED"
            ),
            VideoFacts(
                "video00001",
                SourceUrl("javascript:alert(1)"),
                HOSTILE,
                "FAILED",
                "FAILED",
                HOSTILE,
                error,
            ),
        )
        plain, hostile = tmp_path / "plain.html", tmp_path / "hostile.html"
        write_report(store, made, plain, settings={"detect": {"model": "x"}})
        settings = {"detect": {"model": HOSTILE}}
        write_report(store, ProjectFacts("birds", "COMPLETE", videos), hostile, settings=settings)
        known = {name for name, _ in Tags(plain.read_text()).found} | {"a"}
        found = Tags(hostile.read_text()).found
        assert {name for name, _ in found} <= known
        assert [name for name, _ in found].count("script") == 1
        assert not [key for _, keys in found for key in keys if key.startswith("on")]
        links = [keys["href"] for name, keys in found if name == "a"]
        assert all(link.startswith(("#", "https://x/")) for link in links if link)

    def test_asks_nobody_for_anything(self, store: Store, tmp_path: Path) -> None:
        write_report(store, make_project(store, "birds", 2, 30), tmp_path / "x.html")
        drawn = (tmp_path / "x.html").read_text()
        sources = [keys.get("src") for _, keys in Tags(drawn).found if "src" in keys]
        assert all(source and source.startswith("data:") for source in sources)
        assert "default-src &#x27;none&#x27;" in drawn
        assert "url(" not in drawn


def test_pictures_larger_than_their_tables_say_are_left_out(store: Store) -> None:
    found = gather(store, make_project(store, "birds", videos=2, frames=60), {}, store.root)
    draw_pictures(store, found)
    assert found.objects
    drawn = found.objects.examples[0]
    thumbs = Thumbnails(store, "birds")
    assert thumbs.of_dataset("birds", drawn, 40)
    assert thumbs.of_dataset("birds", replace(drawn, height=drawn.height - 1), 40) is None
    assert thumbs.missing == 1
    (shot,) = (strip[0] for strip in list(found.frames.dropped.values())[:1])
    assert thumbs.of_video(shot, 40)
    picture = store.recipe(shot.video_id, "r") / shot.file_name
    with Image.open(picture) as source:
        source.resize((641, 360)).save(picture)
    assert thumbs.of_video(shot, 40) is None


def test_a_damaged_png_is_left_out(store: Store) -> None:
    """Pillow calls it a syntax error if the name of a later part is none."""

    def part(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = part(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    pixels = zlib.compress(bytes(72), 0)
    damaged = header + part(b"IDAT", pixels[:20]) + part(b"I\x01AT", pixels[20:])
    thumbs = Thumbnails(store, "birds")
    assert thumbs.of(lambda: b"\x89PNG\r\n\x1a\n" + damaged, 40) is None
    assert thumbs.missing == 1
