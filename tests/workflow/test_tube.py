"""A small YouTube on loopback, downloaded from by the real rules: a video of each kind of end.

What else can go wrong with a download is in the test of the same name that drives the jobs alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.support import videos, youtube_server
from tests.support.http_server import serve
from tests.support.site import Site, jobs
from tests.support.tube import (
    ATTEMPTS,
    NAME,
    POLICY,
    SETTINGS,
    assert_failures_are_told,
    cases,
    ends,
    publish,
    video_id,
)

KINDS = ("good", "removed", "title", "hashtag", "page500", "stalls")
PASSING, REFUSED = {"page500"}, {"title", "hashtag"}


def downloads(site: Site, done: CompletedProcess[str]) -> set[str]:
    """Return the names of the videos that a run downloads, or would download."""
    found = set(re.findall(r"Downloading ([\w-]+)", done.stdout + done.stderr))
    rows = site.rows(f"SELECT {NAME}, video_id FROM videos")
    return {name for name, video_id in rows if video_id in found}


def test_each_kind_of_end_in_one_run_and_what_the_next_one_downloads(
    site: Site, tmp_path: Path
) -> None:
    clip = videos.make_video(tmp_path / "clip.mp4")
    chosen = {name: case for name, case in cases(clip, tmp_path).items() if name in KINDS}
    with serve() as tube:
        config: dict[str, Any] = {
            "project": "tube",
            "input": {"urls": [publish(tube, name, case) for name, case in chosen.items()]},
            "download": SETTINGS,
            "monitor": {"max_attempts": ATTEMPTS, "retry_seconds": 0.1},
        }
        site.configure(**config)
        site.populate()
        environment = youtube_server.environment(tube)
        run = ("-c4", "--keep-going", "--retries", str(ATTEMPTS - 1), "only_download")
        done = site.snakemake(*run, **environment)
        assert ends(site) == {name: case.ends for name, case in chosen.items()}
        assert done.returncode == 0, done.stderr  # what passes waits for the next run
        assert jobs(done) == {"download": len(KINDS), "only_download": 1}
        pages = {name: youtube_server.pages(tube)[video_id(name)] for name in chosen}
        # what passes has a batch of its own here, which waits for it once
        assert pages == {name: case.pages for name, case in chosen.items()} | {"page500": 2}
        files = {name: tube.requests[f"/{name}.mp4"] for name in chosen}
        assert files == {name: case.files for name, case in chosen.items()}
        assert re.fullmatch(r"bytes=\d\d+-", str(tube.ranges["/stalls.mp4"][1]))
        for name in ("good", "stalls"):
            folder = site.folder / "data" / "videos" / video_id(name)
            assert (folder / f"{folder.name}.mp4").read_bytes() == clip.read_bytes()
        assert_failures_are_told(site)

        planned = site.snakemake("-n", "only_download", **environment)
        assert downloads(site, planned) == PASSING
        # a new policy has what the old one refused looked at again, and nothing else
        policy = {**POLICY, "blocked_titles": [], "max_size_mb": None}
        site.configure(**{**config, "download": {**SETTINGS, "policy": policy}})
        options = ("--quiet=host", "only_download")  # the lines of jobs too
        again = site.snakemake("-c4", "--retries", "0", *options, **environment)
        assert downloads(site, again) == PASSING | REFUSED
        assert (ends(site)["title"], ends(site)["hashtag"]) == ("DOWNLOADED", "FAILED policy")
        planned = site.snakemake("-n", "only_download", **environment)
        assert downloads(site, planned) == PASSING
