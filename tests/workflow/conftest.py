"""One project mined once, and copies of it for the tests that go on from there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import videos
from tests.support.http_server import serve
from tests.support.postgres import fresh_database, name_of
from tests.support.site import Site


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good videos (real ones where they are at hand) and three that are not."""
    folder = tmp_path_factory.mktemp("footage")
    real = videos.REAL_FOOTAGE
    if real.is_dir():
        shutil.copy(real / "car-detection.mp4", folder / "cars.mp4")
        shutil.copy(real / "bottle-detection.mp4", folder / "bottles.mp4")
    else:
        videos.faststart(folder / "cars.mp4", frames=300, size=(640, 360))
        videos.make_video(folder / "bottles.mp4", frames=400, size=(640, 360), gop=50)
    videos.cut_off(folder / "cars.mp4", folder / "cut.mp4", 0.5)
    videos.audio_only(folder / "audio.m4a")
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="session")
def first_run(
    server: str,
    template: str,
    footage: Path,
    shapes_weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Site, subprocess.CompletedProcess[str]]]:
    """A project of five sources, one of them over HTTP, after one run; never changed by a test."""
    with fresh_database(server, template, "mined") as url:
        site = Site(tmp_path_factory.mktemp("mined"), url)
        with serve() as http:
            site.configure(
                project="birds",
                input={
                    "urls": [http.add("/bottles.mp4", footage / "bottles.mp4")],
                    "files": [str(footage / f) for f in ("cars.mp4", "cut.mp4", "empty.mp4")]
                    + [str(footage / "audio.m4a")],
                },
                detect={"model": str(shapes_weights), "image_size": 320},
            )
            populated = site.dataminer("populate")
            assert populated.returncode == 0, populated.stderr
            done = site.mine()
        yield site, done


@pytest.fixture
def mined(server: str, first_run, tmp_path: Path) -> Iterator[Site]:
    """A copy of the mined project, files and database, to go on from."""
    origin, _ = first_run
    folder = tmp_path / "site"
    shutil.copytree(origin.folder, folder, symlinks=True)
    with fresh_database(server, name_of(origin.database), "copy") as url:
        yield Site(folder, url)


@pytest.fixture
def site(server: str, template: str, tmp_path: Path) -> Iterator[Site]:
    """An empty working directory with an empty database."""
    with fresh_database(server, template, "site") as url:
        yield Site(tmp_path, url)
