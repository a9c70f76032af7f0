"""A model of the Hugging Face Hub, which the run itself fetches into a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import videos
from tests.support.http_server import refused_url, serve
from tests.support.hub import FILES, MODEL, publish
from tests.support.site import Site, jobs

pytest.importorskip("huggingface_hub")
FOLDER = "models/birds--owl"


def test_a_run_fetches_its_model(site: Site, tmp_path: Path) -> None:
    videos.make_video(tmp_path / "clip.mp4", frames=30)
    site.configure(
        project="birds",
        input={"files": [str(tmp_path / "clip.mp4")]},
        detect={"model": MODEL, "prompts": ["an owl"], "jobs": 2},
    )
    site.populate()
    planned = jobs(site.snakemake("-n"))
    assert planned["model_folder"] == planned["detect"] == 1
    assert planned["detect_shards"] == 2
    only_model = ("-c1", "--retries", "0", f"{FOLDER}/config.json")
    offline = site.snakemake(*only_model, HF_ENDPOINT=refused_url().removesuffix("/clip.mp4"))
    assert offline.returncode == 1
    assert f"cannot download {MODEL}: this machine seems to be offline" in offline.stderr
    with serve() as hub:
        publish(hub, FILES)
        fetched = site.snakemake(*only_model, HF_ENDPOINT=hub.url)
    assert fetched.returncode == 0, fetched.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / FOLDER).iterdir()} == FILES
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["birds--owl"]
