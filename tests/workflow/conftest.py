"""One project mined once, and copies of it for the tests that go on from there."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import videos
from tests.conftest import drop, execute, named
from tests.httpserver import serve
from tests.workflow.rig import Site


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
) -> tuple[Site, subprocess.CompletedProcess[str]]:
    """A project of five sources, one of them over HTTP, after one run; never changed by a test."""
    name = f"mined_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    site = Site(tmp_path_factory.mktemp("mined"), named(server, name))
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
    return site, done


@pytest.fixture
def mined(server: str, first_run, tmp_path: Path) -> Iterator[Site]:
    """A copy of the mined project, files and database, to go on from."""
    origin, _ = first_run
    folder = tmp_path / "site"
    shutil.copytree(origin.folder, folder, symlinks=True)
    name = f"copy_{uuid.uuid4().hex[:12]}"
    execute(
        server, f"CREATE DATABASE {name} TEMPLATE {origin.database.split('/')[3].split('?')[0]}"
    )
    site = Site(folder, named(server, name))
    yield site
    drop(server, name)


@pytest.fixture
def site(server: str, template: str, tmp_path: Path) -> Iterator[Site]:
    """An empty working directory with an empty database."""
    name = f"site_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield Site(tmp_path, named(server, name))
    drop(server, name)
