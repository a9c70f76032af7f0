"""Text on frames through Snakemake: rule embed finds it, and filter judges by its area."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from dataminer.frames.table import read_meta, read_table
from tests.support.lettering import write_on
from tests.support.site import Site, jobs

TAKE_ALL = dict.fromkeys(("min_sharpness", "min_contrast", "min_entropy", "min_change"), 0) | {
    "max_blank": 1,
    "max_flash": 1,
}
SIZE = (640, 360)


def clip(path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def configure(site: Site, **text: float) -> None:
    site.configure(
        project="words",
        input={"files": [str(site.folder / "clips")]},
        extract={"strategy": "interval", "every_frames": 1},
        filter={**TAKE_ALL, "text": text},
    )


def messages(site: Site) -> list[str]:
    logs = sorted((site.folder / "logs" / "embed").rglob("*.log"))
    return [line for log in logs for line in re.findall(r"model loads: .*", log.read_text())]


def filtered(site: Site) -> dict[str, Any]:
    (table,) = (site.folder / "data" / "projects" / "words" / "filtered").glob("*/frames.parquet")
    return read_meta(table)


def test_frames_with_much_text_are_left_out_and_another_maximum_loads_no_model(site: Site) -> None:
    plain = np.full((SIZE[1], SIZE[0], 3), (40, 90, 60), np.uint8)
    subtitle, _ = write_on(plain, "A subtitle of a film", (150, 310), 24)
    title, _ = write_on(plain, "The Title\nOf The Film", (60, 80), 80)
    (site.folder / "clips").mkdir()
    clip(site.folder / "clips" / "a.mp4", [plain, subtitle, title])
    configure(site, max_area=0.05)
    assert site.dataminer("populate").returncode == 0

    before = site.dump(), site.listing()
    planned = site.snakemake("-n", "only_filter")
    expected = dict.fromkeys(("download", "extract", "embed", "filter", "only_filter"), 1)
    assert {rule: jobs(planned).get(rule) for rule in expected} == expected, planned.stderr
    drawn = site.snakemake("only_filter", "--dag")
    assert "embed" in drawn.stdout, drawn.stderr
    assert (site.dump(), site.listing()) == before

    done = site.snakemake("-c2", "only_filter")
    assert done.returncode == 0, done.stderr
    assert messages(site) == ["model loads: 1 for 1 videos (1 by text)"]
    assert filtered(site)["passed"] == 2
    assert filtered(site)["rejected"]["text.max_area"] == 1
    shown = site.dataminer("preview", "words", "--set", "filter.text.max_area=0.005")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"text\.max_area\s+.*0\.05", shown.stdout), shown.stdout

    configure(site, max_area=0.005, confidence=0.4)
    done = site.snakemake("-c2", "only_filter")
    assert done.returncode == 0, done.stderr
    assert "embed" not in jobs(done)
    assert filtered(site)["passed"] == 1
    scores = read_table(next((site.folder / "data" / "projects").rglob("scores.parquet")))
    assert scores["rejected"].to_pylist() == [None, "text.max_area", "text.max_area"]
    assert site.snakemake("-n", "only_filter").stdout.count("rule ") == 0
