"""One project mined once, and copies of it for the tests that go on from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support import videos
from tests.support.http_server import serve
from tests.support.once import once
from tests.support.postgres import create, fresh_database, name_of
from tests.support.site import Site, copied


@pytest.fixture(scope="session")
def footage(run_folder: Path, server: str) -> Path:
    """Two good videos (a real one if it is at hand), one that is cut off, and one of sound only."""
    folder = run_folder / "footage"

    def make() -> str:
        folder.mkdir()
        real = videos.REAL_FOOTAGE / "bottle-detection.mp4"
        if real.is_file():
            shutil.copy(real, folder / "bottles.mp4")
        else:
            videos.make_video(folder / "bottles.mp4", frames=150, size=(640, 360), gop=50)
        videos.faststart(folder / "cars.mp4", frames=150, size=(320, 240))
        videos.cut_off(folder / "cars.mp4", folder / "cut.mp4", 0.5)
        videos.audio_only(folder / "audio.m4a")
        return str(folder)

    return Path(once(run_folder / "footage.made", make))


@dataclass(frozen=True)
class Mined:
    """A mined project: its folder, its database, to which nobody connects, and what was said."""

    folder: Path
    database: str
    done: CompletedProcess[str]


@pytest.fixture(scope="session")
def mined_once(
    server: str, template: str, footage: Path, shapes_weights: Path, run_folder: Path
) -> Mined:
    """A project of four sources, one of them over HTTP, after one run; made by one process."""
    folder = run_folder / "mined"

    def make() -> str:
        folder.mkdir()
        site = Site(folder, create(server, template, "mined"))
        with serve() as http:
            site.configure(
                project="birds",
                input={
                    "urls": [http.add("/bottles.mp4", footage / "bottles.mp4")],
                    "files": [str(footage / f) for f in ("cars.mp4", "cut.mp4", "audio.m4a")],
                },
                detect={"model": str(shapes_weights), "image_size": 320},
            )
            populated = site.dataminer("populate")
            assert populated.returncode == 0, populated.stderr
            done = site.mine()
        printed = {"returncode": 0, "stdout": done.stdout, "stderr": done.stderr}
        return json.dumps({"database": site.database, "done": {"args": done.args, **printed}})

    made = json.loads(once(run_folder / "mined.made", make))
    return Mined(folder, made["database"], CompletedProcess(**made["done"]))


@pytest.fixture(scope="session")
def first_run(server: str, mined_once: Mined) -> Iterator[tuple[Site, CompletedProcess[str]]]:
    """The project as its run left it, and what the run said; never changed by a test."""
    with fresh_database(server, name_of(mined_once.database), "origin") as url:
        yield Site(mined_once.folder, url), mined_once.done


@pytest.fixture
def mined(server: str, mined_once: Mined, tmp_path: Path) -> Iterator[Site]:
    """A copy of the mined project, files and database, to go on from."""
    with copied(server, mined_once.folder, mined_once.database, tmp_path / "site") as site:
        yield site


@pytest.fixture
def site(server: str, template: str, tmp_path: Path) -> Iterator[Site]:
    """An empty working directory with an empty database."""
    with fresh_database(server, template, "site") as url:
        yield Site(tmp_path, url)
