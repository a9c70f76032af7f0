"""Models look at the frames of many videos in one process, and filter judges by what they saw."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dataminer.frames.table import read_meta, read_table
from dataminer.vision.weights import weights_sha256
from tests.support.dino_models import write_dino
from tests.support.siglip_model import colour_picture
from tests.support.site import Site, jobs

GOOD, PER_JOB = 3, 2
TAKE_ALL = dict.fromkeys(("min_sharpness", "min_contrast", "min_entropy", "min_change"), 0) | {
    "max_blank": 1
}
SEMANTIC = {
    "positive": ["a picture of red"],
    "negative": ["a picture of blue", "a picture of green"],
}


def clip(path: Path, colours: list[str], seed: int) -> None:
    """Write a video with one frame of each colour."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for colour in colours:
            image = np.array(colour_picture(colour, rng, 8).resize((64, 64)))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def configure(
    site: Site,
    model: Path | str,
    prompts: dict[str, list[str]],
    *,
    compared: Path | None = None,
    **more: Any,
) -> None:
    own = {} if compared is None else {"model": str(compared)}
    semantic = {"model": str(model), "prompts": prompts, "device": "cpu", **more}
    site.configure(
        project="red",
        input={"files": [str(site.folder / "clips")]},
        extract={"strategy": "interval", "every_frames": 1},
        filter={**TAKE_ALL, "videos_per_job": PER_JOB, "semantic": semantic},
        dedup={"method": "embedding", "similarity": 0.8, **own},
    )


@pytest.fixture
def red(site: Site, tiny_siglip: Path) -> Site:
    """A project of clips of a red and a blue frame, and a file that is no video."""
    (site.folder / "clips").mkdir()
    for number in range(GOOD):
        clip(site.folder / "clips" / f"{number:03d}.mp4", ["red", "blue"], number)
    (site.folder / "clips" / "broken.mp4").write_bytes(b"no video")
    configure(site, tiny_siglip, SEMANTIC)
    populated = site.dataminer("populate")
    assert populated.returncode == 0, populated.stderr
    return site


def loads(site: Site) -> list[int]:
    """Return how often each job of rule embed that ran so far loaded a model."""
    logs = sorted((site.folder / "logs" / "embed").rglob("*.log"))
    return [int(n) for log in logs for n in re.findall(r"model loads: (\d+)", log.read_text())]


def passed(site: Site) -> list[int]:
    tables = (site.folder / "data" / "projects" / "red" / "filtered").glob("*/frames.parquet")
    metas = [read_meta(table) for table in sorted(tables)]
    return sorted(meta["passed"] for meta in metas if "failure" not in meta)


def statuses(site: Site) -> list[tuple[Any, ...]]:
    return site.rows("SELECT status, count(*) FROM project_videos GROUP BY 1 ORDER BY 1")


def test_a_batch_loads_the_model_once_and_only_new_frames_load_it_again(
    red: Site, tiny_siglip: Path, shims: str
) -> None:
    shim = {"PYTHONPATH": shims}
    before = red.dump(), red.listing()
    planned = red.snakemake("-n", "only_filter", **shim)
    assert jobs(planned)["embed"] == 2 and jobs(planned)["prompts"] == 1, planned.stderr
    assert (red.dump(), red.listing()) == before

    done = red.snakemake("-c2", "only_filter", **shim)
    assert done.returncode == 0, done.stderr
    assert jobs(done)["embed"] == 2 and jobs(done)["filter"] == GOOD + 1
    assert loads(red) == [1, 1]  # one a batch; by default a batch has 100 videos
    assert passed(red) == [1] * GOOD
    assert statuses(red) == [("FAILED", 1), ("FILTERED", GOOD)]
    scores = read_table(next((red.folder / "data" / "projects").rglob("scores.parquet")))
    assert scores["rejected"].to_pylist() == [None, "semantic.min_margin"]

    # other prompts, and a video more: that one alone is looked at, and dedup finds all embeddings
    clip(red.folder / "clips" / "late.mp4", ["red", "red"], 99)
    configure(red, tiny_siglip, {"positive": ["a picture of blue"]}, min_score=0.9)
    assert red.dataminer("populate").returncode == 0
    done = red.snakemake("-c2", "only_dedup", **shim)
    assert done.returncode == 0, done.stderr
    once = dict.fromkeys(("download", "extract", "embed", "prompts", "dedup", "only_dedup"), 1)
    assert jobs(done) == once | {"filter": GOOD + 1}
    assert sorted(loads(red)) == [1, 1, 1]
    embedded = [log.read_text().count("embedded") for log in red.folder.glob("logs/embed/*/*.log")]
    assert sorted(embedded) == [1, 1, 2]
    assert passed(red) == [0] + [1] * GOOD
    assert statuses(red) == [("FAILED", 1), ("FILTERED", GOOD), ("FILTERED_EMPTY", 1)]
    assert red.rows("SELECT filtered_frames, unique_frames FROM projects") == [(GOOD, 1)]
    meta = read_meta(red.folder / "data" / "projects" / "red" / "dedup" / "frames.parquet")
    embeddings = next((red.folder / "data" / "embeddings").rglob("*.parquet"))
    assert meta["model"] == read_meta(embeddings)["model"]


def test_dedup_compares_by_its_own_model_and_another_one_runs_nothing_else(
    red: Site, tiny_siglip: Path, shims: str
) -> None:
    shim = {"PYTHONPATH": shims}
    first = write_dino("dinov2", red.folder / "first")
    second = write_dino("dinov3_vit", red.folder / "second")

    def compared_by(site: Site) -> str:
        table = site.folder / "data" / "projects" / "red" / "dedup" / "frames.parquet"
        return str(read_meta(table)["model"])

    configure(red, tiny_siglip, SEMANTIC, compared=first)
    done = red.snakemake("-c2", "only_dedup", **shim)
    assert done.returncode == 0, done.stderr
    assert loads(red) == [2, 2]  # the filter's and dedup's, in one job per batch
    assert compared_by(red) == weights_sha256(first)

    configure(red, tiny_siglip, SEMANTIC, compared=second)
    planned = red.snakemake("-n", "only_dedup", **shim)
    again = {"embed": 2, "dedup": 1, "only_dedup": 1}
    assert jobs(planned) == again, planned.stderr
    done = red.snakemake("-c2", "only_dedup", **shim)
    assert done.returncode == 0, done.stderr
    assert jobs(done) == again
    assert sorted(loads(red)) == [1, 1, 2, 2]
    assert compared_by(red) == weights_sha256(second)
    assert not jobs(red.snakemake("-n", "only_dedup", **shim))

    # the embeddings by the first one are still there, and no prompt needs the filter's model
    configure(red, "./nowhere", {}, compared=first)
    planned = red.snakemake("-n", "only_dedup", **shim)
    assert jobs(planned) == {"dedup": 1, "filter": GOOD, "only_dedup": 1}, planned.stderr
