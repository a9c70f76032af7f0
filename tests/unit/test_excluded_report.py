"""The report shows what was left out beside the reference pictures, and no other file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataminer.config.models import DedupConfig
from dataminer.frames.table import read_meta, read_table, write_table
from dataminer.report.data.facts import ProjectFacts, VideoFacts
from dataminer.report.data.gather import Findings, gather
from dataminer.report.html.page import page, write_report
from dataminer.report.html.thumbs import Thumbnails
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.stages.dedup.references.table import EXCLUDED_FILE, EXCLUDED_SCHEMA
from dataminer.store.layout import Store
from dataminer.urls import SourceUrl
from tests.support.drawn_scenes import scene, write_frames
from tests.support.references import Mined, altered, write_archive, write_image

URL = SourceUrl("https://example.org/a")
FACTS = ProjectFacts("p", "COMPLETE", (VideoFacts("a", URL, None, "EXTRACTED", "FILTERED"),))


class Reported:
    """A project with frames near two references, one of them in an archive."""

    def __init__(self, root: Path) -> None:
        self.store, self.bench = Store(root / "data"), root / "bench"
        write_image(self.bench / "sub" / "<0>.bmp", scene(0))
        write_archive(self.bench / "x.tar", {"in/1.jpg": scene(1)})
        (self.bench / "bad.jpg").write_bytes(b"no image")
        mined = Mined(root)
        pictures = [altered(scene(0), "flipped"), scene(1), scene(2)]
        mined.video("a", pictures)
        mined.dedup(self.bench)
        write_frames(self.store.recipe("a", "r"), pictures)
        shutil.copytree(mined.root / "filtered" / "a", self.store.filtered("p", "a"))
        shutil.copytree(mined.out, self.store.dedup("p"))

    @property
    def references(self) -> ReferencePictures:
        found = ReferencePictures.of(DedupConfig(exclude=[str(self.bench)]))
        assert found
        return found

    def gather(self, references: ReferencePictures | None) -> Findings:
        return gather(self.store, FACTS, {}, self.store.root, references)

    def section(self, references: ReferencePictures | None) -> str:
        drawn = page(self.gather(references), Thumbnails(self.store, "p"))
        return drawn.split('<section id="excluded">')[1].partition("</section>")[0]


@pytest.fixture
def reported(tmp_path: Path) -> Reported:
    return Reported(tmp_path)


def test_frames_are_shown_beside_their_references(reported: Reported) -> None:
    found = reported.gather(reported.references).excluded
    assert found
    assert (found.frames, found.references, found.unreadable) == (2, 2, 1)
    assert found.by_entry == [(str(reported.bench), 2)]
    shown = [(pair.frame.frame_index, pair.name, pair.mirrored) for pair in found.pairs]
    assert shown == [(0, "sub/<0>.bmp", True), (1, "x.tar/in/1.jpg", False)]
    section = reported.section(reported.references)
    assert section.count('src="data:image/jpeg;base64,') == 4
    assert "sub/&lt;0&gt;.bmp" in section
    assert "<0>" not in section
    assert "mirrored" in section
    assert "0 bits, 0.0% changed" in section
    assert "1 other pictures cannot be decoded" in section


def test_without_references_there_is_no_section(reported: Reported, tmp_path: Path) -> None:
    (reported.store.dedup("p") / EXCLUDED_FILE).unlink()
    assert reported.gather(None).excluded is None
    write_report(reported.store, FACTS, tmp_path / "x.html")
    assert 'id="excluded"' not in (tmp_path / "x.html").read_text()
    assert 'href="#excluded"' not in (tmp_path / "x.html").read_text()


def test_references_that_are_gone_are_not_shown(reported: Reported) -> None:
    (reported.bench / "x.tar").unlink()
    section = reported.section(reported.references)
    assert section.count('src="data:image/jpeg;base64,') == 3
    assert section.count("not shown") == 1


@pytest.mark.parametrize(
    "changed", [{"reference": "../secret.jpg"}, {"excluded_by": "/"}, {"member": "in/2.jpg"}]
)
def test_no_picture_is_shown_that_the_setting_does_not_name(
    reported: Reported, changed: dict[str, Any]
) -> None:
    """Others may write to the store, and its tables may name any file."""
    write_image(reported.bench.parent / "secret.jpg", scene(9))
    path = reported.store.dedup("p") / EXCLUDED_FILE
    rows = read_table(path, schema=EXCLUDED_SCHEMA).to_pylist()
    table = pa.Table.from_pylist([row | changed for row in rows], schema=EXCLUDED_SCHEMA)
    write_table(path, table, EXCLUDED_SCHEMA, read_meta(path))
    assert reported.section(reported.references).count("not shown") == 2
    assert reported.section(None).count("not shown") == 2


def test_a_damaged_table_is_left_out_and_reported(reported: Reported) -> None:
    (reported.store.dedup("p") / EXCLUDED_FILE).write_bytes(b"damaged")
    found = reported.gather(reported.references)
    assert found.excluded is None
    assert any(EXCLUDED_FILE in message for message in found.damaged)
