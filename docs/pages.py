"""Photograph the report of the demo's project, and the live page while a project is mined."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import sync_playwright

from demo.clips import Clip, Scene, make_clip
from demo.shapes import photographs

ROOT = Path(__file__).resolve().parents[1]
LIVE = ROOT / ".cache/live"
REPORT = LIVE / "data/projects/shapes/report"
BIN = Path(sys.executable).parent
# coffee, a cat, a rocket, an astronaut: photographs that are in the public domain or CC0
FREE = slice(3, 7)
CLIPS = (
    Clip("cup", (Scene(0, 5), Scene(8, 4, "still"))),
    Clip("cat", (Scene(1, 4), Scene(5, 5), Scene(1, 3, "dark"))),
    Clip("launch", (Scene(2, 5), Scene(6, 4, "blurred"), Scene(6, 4))),
    Clip("crew", (Scene(3, 4), Scene(7, 4)), crf=33),
    Clip("uneven", (Scene(9, 5), Scene(11, 6)), variable_rate=True),
)
# something done, something at work, and something that failed
_BUSY = (
    "body:has(#claims:not([hidden])):has(#classes:not([hidden])):has(#list .good)"
    ":has(#runs p:has-text('running: '))"
)


def main() -> None:
    """Take all pictures."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        with mining() as (url, run):
            take(chromium, url, "monitor.jpg", height=1640, wait=_BUSY)
            run.wait()
            take(chromium, (REPORT / "index.html").as_uri(), "report.jpg", height=1820)
            command("dataminer", "preview", "shapes", "--set", "filter.min_sharpness=0.16").wait()
            preview = REPORT / "preview/index.html"
            take(chromium, preview.as_uri(), "preview.jpg", height=1420)
        chromium.close()


def take(chromium: Any, url: str, name: str, *, height: int, wait: str = "body") -> None:
    """Photograph the beginning of a page, once there is what to wait for."""
    page = chromium.new_page(viewport={"width": 1180, "height": height})
    page.goto(url)
    page.wait_for_selector(wait, timeout=300_000)
    page.screenshot(path=ROOT / "docs" / name, type="jpeg", quality=78)
    page.close()


@contextmanager
def mining() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Mine some videos and a broken one in a folder that goes away; yields live page and run."""
    shutil.rmtree(LIVE, ignore_errors=True)
    (LIVE / "config").mkdir(parents=True)
    (LIVE / "videos").mkdir()
    for clip in CLIPS:
        make_clip(LIVE / "videos", clip, photographs()[FREE])
    (LIVE / "broken.mp4").touch()
    config = {
        "project": "shapes",
        "input": {"files": ["videos", "broken.mp4"]},
        "detect": {"model": str(ROOT / "demo/shapes.pt"), "image_size": 320},
    }
    (LIVE / "config/config.yaml").write_text(yaml.safe_dump(config))
    command("dataminer", "populate").wait()
    monitor = command("dataminer", "monitor", "--web", "--interval", "0.5", stdout=subprocess.PIPE)
    run = command("snakemake", "--snakefile", str(ROOT / "Snakefile"), "-c2")
    try:
        assert monitor.stdout
        yield monitor.stdout.readline().split()[-1], run
    finally:
        monitor.terminate()
        monitor.communicate()
        run.terminate()
        run.wait()
        command("dataminer", "db", "stop").wait()
        shutil.rmtree((LIVE / ".dataminer/postgres").resolve(), ignore_errors=True)
        shutil.rmtree(LIVE)


def command(program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command of this environment, with a database of the folder's own."""
    env = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    env["PATH"] = f"{BIN}{os.pathsep}{env['PATH']}"
    env.pop("DATAMINER_PGDATA", None)
    return subprocess.Popen([BIN / program, *arguments], cwd=LIVE, env=env, text=True, **options)


if __name__ == "__main__":
    main()
