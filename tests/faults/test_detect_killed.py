"""Rule detect killed in the middle of its work: what it had found by then is found no more."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dataminer.config.models import DetectConfig
from dataminer.stages.detect import shards
from tests.support import videos
from tests.support.runs import (
    Run,
    contents,
    detector,
    leftovers,
    populate,
    until,
    without_snakemake,
)
from tests.support.site import Site, jobs

pytestmark = pytest.mark.slow

# in each of a run's processes: a file of this name never comes into its place
_HOLD_BACK = """
import os, sys, time
def hold(event, values):
    if event == "os.rename" and os.path.basename(values[1]) == os.environ["HELD_BACK"]:
        time.sleep(600)
sys.addaudithook(hold)
"""


def project(site: Site) -> Path:
    return site.folder / "data" / "projects" / "birds"


def made(site: Site) -> dict[str, tuple[int, int]]:
    """Return when each shard was made, and its inode."""
    found = {path.name: path.stat() for path in (project(site) / "detect_shards").glob("*.json")}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in found.items()}


def dataset(site: Site) -> dict[str, str]:
    """Return the digest of each file of detect, of its shards and of the contact sheet."""
    under = ("projects/birds/detect", "projects/birds/report")
    return {name: digest for name, digest in contents(site).items() if name.startswith(under)}


def test_a_killed_detect_goes_on_where_it_was(
    new_site: Callable[..., Site],
    start: Callable[..., Run],
    shapes_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Begun by one job and ended by two: the dataset is the one that one job makes at one go."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    site, undisturbed = new_site("site"), new_site("undisturbed")
    settings = {**detector(shapes_weights), "shard_images": 6, "batch": 2}
    videos.make_video(tmp_path / "clip.mp4", frames=100)
    for each in (site, undisturbed):
        inputs = {"files": [str(tmp_path / "clip.mp4")]}
        populate(each, inputs, detect=settings, dedup={"threshold": 0})
    without_snakemake(site, "dedup")
    plan = shards.divide_into_shards(
        project(site) / "dedup", Path("unused"), shapes_weights, DetectConfig(**settings)
    )
    assert len(plan.frames) > 24, "a shard holds at most 12: with fewer there may be no middle"
    keys = [f"{shard.key}.json" for shard in plan.shards]
    middle = len(keys) // 2
    (tmp_path / "sitecustomize.py").write_text(_HOLD_BACK)
    run = start(site, PYTHONPATH=str(tmp_path), HELD_BACK=keys[middle])
    until(lambda: set(made(site)) == set(keys[:middle]), run)
    before = made(site)
    run.signal(signal.SIGKILL)
    run.end()
    assert site.rows("SELECT project_stage FROM projects") == [("DETECTING",)]
    assert not (project(site) / "detect" / "annotations.json").exists()

    shutil.rmtree(site.folder / ".snakemake" / "locks")  # as --unlock does
    site.configure(**{**site.config(), "detect": {**settings, "jobs": 2}})
    assert jobs(site.mine()) == {"all": 1, "detect": 1, "detect_shards": 2, "report": 1}
    after = made(site)
    assert set(after) == set(keys)
    assert {name: after[name] for name in before} == before
    left = sum(len(shard.frames) for shard in plan.shards[middle:])
    logs = [path.read_text() for path in site.folder.glob("logs/detect_shards/birds/*.log")]
    shares = [int(re.findall(r"detect: \d+ of (\d+) frames", log)[-1]) for log in logs]
    assert len(shares) == 2
    assert sum(shares) == left
    assert "frames" not in (site.folder / "logs/detect/birds.log").read_text()  # read again
    assert site.rows("SELECT project_stage, attempts, error FROM projects") == [
        ("COMPLETE", 0, None)
    ]
    assert leftovers(site) == list((project(site) / "detect_shards").glob("*.done")) == []

    without_snakemake(undisturbed, "detect")
    assert dataset(site) == dataset(undisturbed)
