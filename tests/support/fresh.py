"""What mining without faults gives: each video by itself, and one dedup after another."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from dataminer.config import Config, load
from dataminer.frames.table import CLUSTERS_FILE, FRAMES_FILE, read_meta, read_table
from dataminer.provenance import fingerprints
from dataminer.stages.dedup import stage as dedup_stage
from dataminer.store.layout import Store
from dataminer.sync.jobs.download import download_video
from dataminer.sync.jobs.extract import extract_video
from dataminer.sync.jobs.filter import filter_video
from tests.support import videos
from tests.support.postgres import execute
from tests.support.site import Site
from tests.support.stores import frames_of

Settings = Mapping[str, Mapping[str, Any]]
ReleaseState = Literal["good", "broken"]
VERSIONS: tuple[ReleaseState, ...] = ("good", "broken")

# What the metadata of unique frames says about the work depends on what was there before, and the
# fingerprint on what is left of failures.
_HOW = ("pinned", "carried", "judged", "compared", "aligned", "fingerprint")
_FRAMES = 30
_SIZES = {"a": (96, 64), "b": (128, 96), "c": (160, 120), "d": (96, 96), "broken": (112, 80)}
_SIZES["link"] = (128, 64)


@dataclass(frozen=True)
class Clip:
    """A video of the walk, as its source gives it.

    Parameters
    ----------
    name : str
        What the walk calls it.
    path : Path
        The file that is its source, or that a server gives out.
    source : str
        What is added to the project: the path, or a URL.
    """

    name: str
    path: Path
    source: str

    def put(self, version: ReleaseState) -> None:
        """Have the source give this version from now on."""
        partial = self.path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        shutil.copy2(self._kept(version), partial)  # its time, too
        partial.replace(self.path)  # the store may hold a link to what was there

    @contextmanager
    def giving(self, version: ReleaseState) -> Iterator[None]:
        """Have the source give a version for a while."""
        aside = self.path.with_suffix(".aside")
        self.path.rename(aside)
        try:
            self.put(version)
            yield
        finally:
            aside.replace(self.path)

    def make(self) -> None:
        """Make both versions."""
        for version in VERSIONS:
            self._kept(version).parent.mkdir(parents=True, exist_ok=True)
        videos.make_video(self._kept("good"), frames=_FRAMES, size=_SIZES[self.name])
        self._kept("broken").touch()

    def _kept(self, version: ReleaseState) -> Path:
        return self.path.parent / version / self.path.name


CLIPS = tuple(_SIZES)


@dataclass(frozen=True)
class Mined:
    """What a fresh mining gave of one video.

    Parameters
    ----------
    video_id : str
        Its id.
    frames, filtered : Path
        The folders.
    failure : str or None
        The class of its failure.
    """

    video_id: str
    frames: Path
    filtered: Path
    failure: str | None


class Fresh:
    """Fresh minings of clips, each made once for all that ask for it.

    Parameters
    ----------
    folder : Path
        Where their stores lie.
    database : str
        The URL of a database with tables, which nobody else uses.
    """

    def __init__(self, folder: Path, database: str) -> None:
        self._folder, self._database = folder, database
        self._made: dict[str, Mined] = {}

    def mined(self, clip: Clip, version: ReleaseState, settings: Settings) -> Mined:
        """Return what a fresh mining of a clip gives.

        Settings of downloads are no part of it: they fetch the same bytes here.
        """
        chosen = {name: settings[name] for name in ("extract", "filter")}
        key = json.dumps([clip.name, version, chosen], sort_keys=True)
        if key not in self._made:
            with clip.giving(version):
                self._made[key] = self._mine(clip, chosen)
        return self._made[key]

    def _mine(self, clip: Clip, settings: Settings) -> Mined:
        site = Site(self._folder / f"{len(self._made):03}", self._database)
        site.folder.mkdir(parents=True)
        execute(self._database, "TRUNCATE projects, videos, project_videos")
        site.configure(project="p", **settings)
        added = site.dataminer_here("add-video", clip.source, "--project", "p")
        assert added.returncode == 0, added.stderr
        ((video_id,),) = site.rows("SELECT video_id FROM videos")
        config = load(site.config())
        with site.inside():
            download_video(config, video_id)
            extract_video(config, video_id)
            filter_video(config, "p", video_id)
        store = Store(site.folder / "data")
        failure = read_meta(frames_of(store, video_id) / FRAMES_FILE).get("failure", {})
        filtered = store.filtered("p", video_id)
        return Mined(video_id, frames_of(store, video_id), filtered, failure.get("error_class"))


class Unique:
    """The unique frames of a project, as one result after another gives them without faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.folder: Path | None = None

    def digest(self, mined: Sequence[Mined], config: Config) -> str:
        """Return the fingerprint of the unique frames of these videos."""
        made = [(one.video_id, read_meta(one.filtered / FRAMES_FILE)) for one in mined]
        inputs = sorted((video_id, meta.get("fingerprint")) for video_id, meta in made)
        return fingerprints.of_dedup(config.dedup.result_settings(), inputs)

    def follow(self, mined: Sequence[Mined], config: Config) -> Path:
        """Return the folder of the unique frames of these videos, made after the last one."""
        digest = self.digest(mined, config)
        if self.folder and read_meta(self.folder / FRAMES_FILE)["fingerprint"] == digest:
            return self.folder
        out = self._folder / f"{self._count:03}"
        out.mkdir(parents=True)
        self._count += 1
        ordered = sorted(mined, key=lambda one: one.video_id)
        dedup_stage.dedup(
            [one.filtered for one in ordered],
            out,
            config.dedup,
            previous=self.folder,
            thumbnails=[one.frames for one in ordered],
            meta={"fingerprint": digest},
        )
        self.folder = out
        return out

    def forget(self) -> None:
        """Have the next result made as if it were the first: who stood for whom is gone."""
        self.folder = None


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def unique_frames(folder: Path) -> dict[str, Any]:
    """Return all that a folder of unique frames holds, but for how it was made."""
    found: dict[str, Any] = digests(folder)
    for table in (FRAMES_FILE, CLUSTERS_FILE):
        if (folder / table).exists():
            meta = {k: v for k, v in read_meta(folder / table).items() if k not in _HOW}
            rows: pa.Table = read_table(folder / table)
            found[table] = [meta, rows.to_pylist()]
    return found
