"""Two projects mine the same videos at once, with different settings, and are killed at random."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.config import load
from dataminer.store.layout import Store
from tests.support import planned
from tests.support.fresh import CLIPS, Clip, Fresh, Mined, Unique, digests, unique_frames
from tests.support.planned import Planned
from tests.support.postgres import fresh_database
from tests.support.site import Site

EXTRACT: Sequence[dict[str, Any]] = (
    {"every_seconds": 0.2},
    {"every_seconds": 0.3},
    {"every_seconds": 0.2, "quality": 80},
    {"every_seconds": 0.4, "frame_store": "tar"},
)
FILTER = {"min_sharpness": 0}
_LONGEST = 1.0  # seconds until a run is killed
_PATIENCE = 600.0


@dataclass
class Pairs:
    """What pairs are made of.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    server, template : str
        The URL of the database server, and the name of a database with the tables in it.
    alone : str
        The URL of a database of its own for what is mined alone.
    kills : int
        How many runs were killed so far.
    """

    folder: Path
    server: str
    template: str
    alone: str
    kills: int = 0

    def __post_init__(self) -> None:
        self._fresh = Fresh(self.folder / "alone", self.alone)
        self._clips = []
        for name in CLIPS[:3]:
            path = self.folder / "clips" / f"{name}.mp4"
            self._clips.append(Clip(name, path, str(path)))
            self._clips[-1].make()
            self._clips[-1].put("good")

    def pair(self, seed: int) -> None:
        """Have two projects mine at once, each killed now and then, until both are done.

        Raises
        ------
        AssertionError
            When a dataset is not what its settings make alone.
        """
        chance = random.Random(seed)
        chosen = dict(zip("pq", chance.sample(EXTRACT, 2), strict=True))
        root = self.folder / f"pair-{seed}"
        with fresh_database(self.server, self.template, f"pair{seed}") as database:
            sites = {}
            for project, extract in chosen.items():
                site = sites[project] = Site(root / project, database)
                site.folder.mkdir(parents=True)
                settings = {"extract": extract, "filter": FILTER, "store": str(root / "data")}
                files = [clip.source for clip in self._clips]
                site.configure(project=project, input={"files": files}, **settings)
                site.populate()
            runs = {project: Planned(site) for project, site in sites.items()}
            for _ in range(chance.randint(1, 4)):
                time.sleep(chance.uniform(0, _LONGEST))
                project = chance.choice("pq")
                if not runs[project].ended:
                    self.kills += 1
                    runs[project].signal(signal.SIGKILL)
                    runs[project].end(_PATIENCE)
                runs[project] = Planned(sites[project])
            for run in runs.values():
                assert run.end(_PATIENCE) == 0, run.printed
            for project, site in sites.items():
                again = Planned(site)  # what waited for the other one
                assert again.end(_PATIENCE) == 0, again.printed
                planned.nothing_left(site)
                self._check(site, project, chosen[project])

    def _check(self, site: Site, project: str, extract: dict[str, Any]) -> None:
        store, config = Store(Path(site.config()["store"])), load(site.config())
        mined = [self._alone(clip, extract) for clip in self._clips]
        for one in mined:
            found = digests(store.filtered(project, one.video_id))
            assert found == digests(one.filtered), f"{project}: the filtered frames"
            assert digests(store.recipe(one.video_id, one.frames.name)) == digests(one.frames)
        expected = Unique(site.folder / "unique").follow(mined, config)
        assert unique_frames(store.dedup(project)) == unique_frames(expected), f"{project}: dedup"

    def _alone(self, clip: Clip, extract: dict[str, Any]) -> Mined:
        return self._fresh.mined(clip, "good", {"extract": extract, "filter": FILTER})
