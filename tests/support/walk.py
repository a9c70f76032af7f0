"""A walk at random through all that happens to a site between two plain runs of Snakemake.

Each plain run must leave what a mining without faults leaves, or a named failure.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from dataminer.config import Config, load
from dataminer.frames.table import FRAMES_FILE, read_table
from dataminer.store.layout import Store
from dataminer.sync.claims.stage_rows import DEDUP, DOWNLOAD, EXTRACT, FILTER, StageRows
from dataminer.sync.jobs import results
from tests.support import planned
from tests.support.fresh import (
    CLIPS,
    Clip,
    Fresh,
    Mined,
    ReleaseState,
    Unique,
    digests,
    unique_frames,
)
from tests.support.http_server import serve
from tests.support.planned import Planned
from tests.support.postgres import create, drop, fresh_database, name_of
from tests.support.runs import PATIENCE, Pauses, Run, end_sessions
from tests.support.site import Site
from tests.support.waiting import wait_for

CHOICES: dict[str, list[dict[str, Any]]] = {
    "download": [{}, {"max_height": 720}],
    "extract": [
        {"every_seconds": 0.2},
        {"every_seconds": 0.3},
        {"every_seconds": 0.2, "quality": 80},
        {"every_seconds": 0.2, "frame_store": "tar"},
    ],
    "filter": [{"min_sharpness": 0}, {"min_sharpness": 0, "min_change": 0}, {"max_flash": 0.01}],
    "dedup": [{"threshold": 8}, {"threshold": 3}, {"threshold": 20, "hash": "phash"}],
}
FIRST = {section: choices[0] for section, choices in CHOICES.items()}
LOST = {
    "frames/{}/*/frames.parquet": "frames",
    "frames/{}": "frames",
    "videos/{}/info.json": "",
    "videos/{}": "",
    "projects/p/filtered/{}/frames.parquet": "",
    "projects/p/filtered/{}": "",
    "projects/p/dedup/frames.parquet": "",
    "projects/p/dedup": "dedup",
}
# of another site's database or store, and of a copy
_STRAY = (
    ["sync", "--deep"],
    ["add-video", "https://example.org/other.mp4", "--project", "p"],
    ["delete-project", "p", "--files", "--videos", "--yes"],
    ["cleanup-orphans", "--files", "--rows", "--yes"],
    ["force-dedup", "p", "--yes"],
    ["retry"],
)
_PATIENCE = 1500.0  # for the end of a run, on a machine that is loaded many times over
BROKEN = "empty"  # the class of its failure
_PAUSES_GO = "DROP FUNCTION IF EXISTS pause() CASCADE; DROP TABLE IF EXISTS pauses"
_VIDEOS = """
SELECT video_id, v.status, v.error_class, v.locked_by, source_frames,
    pv.status, pv.error_class, pv.locked_by, passed_frames
FROM project_videos pv JOIN videos v USING (video_id) JOIN projects p USING (project_id)
WHERE p.name = '{}' ORDER BY 1
"""


class Begun(Protocol):
    """A run at work."""

    @property
    def ended(self) -> bool:
        """Whether it is over."""

    @property
    def printed(self) -> str:
        """What it printed."""

    def signal(self, number: int) -> None:
        """Send all of its processes a signal."""

    def end(self, patience: float) -> int:
        """Wait for its end; return its exit status."""


@dataclass(frozen=True)
class Runs:
    """How the walk makes plain runs.

    Parameters
    ----------
    begin : callable
        Starts one.
    nothing_left : callable
        Sees that another would do nothing.
    asks_each_time : bool
        Whether it does so after each run; else after the last, and the plan is asked alone.
    """

    begin: Callable[[Site], Begun]
    nothing_left: Callable[[Site], None]
    asks_each_time: bool = False


def _nothing_left(site: Site) -> None:
    done = site.snakemake("-n", "only_dedup")
    assert "Nothing to be done" in done.stdout + done.stderr, done.stderr


SNAKEMAKE = Runs(lambda site: Run(site, "only_dedup"), _nothing_left)
PLANNED = Runs(Planned, planned.nothing_left)


@dataclass
class Rows:
    """What the database should know, which comes back with a dump.

    Parameters
    ----------
    members : set of str
        The clips of the project.
    failed : set of str
        Those that may still be FAILED: broken when they were tried, and not tried again since.
    held : bool
        A run was killed, and what it held is held until the next one: what is held is left alone.
    """

    members: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    held: bool = False


@dataclass
class Walk:
    """A site, and what should be there.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    server : str
        The URL of the database server.
    site : Site
        What is walked on.
    neighbour : Site
        Another one, which nothing of this may touch.
    clips : dict
        The sources.
    fresh : Fresh
        What mining them afresh gives.
    chance : random.Random
        Chooses the way.
    runs : Runs
        How plain runs are made.
    story : list of str
        The steps so far.
    rows : Rows
        What the database should know.
    settings, store : dict, str
        Of the site's configuration.
    mended : bool
        Whether the source of the broken clip is good by now.
    gone : set of str
        Clips whose files were deleted that nothing needs since; sync alone would have them made.
    spared : set of str
        Clips whose frames were deleted: if there are others, not even sync has them made.
    unknown : set of str
        Clips of the project that the database forgot with an older dump.
    dump : tuple, optional
        A copy of the database, and what it knows.
    run : Begun, optional
        The last run.
    """

    folder: Path
    server: str
    site: Site
    neighbour: Site
    clips: dict[str, Clip]
    fresh: Fresh
    chance: random.Random
    runs: Runs
    story: list[str] = field(default_factory=list)
    rows: Rows = field(default_factory=Rows)
    settings: dict[str, dict[str, Any]] = field(default_factory=lambda: deepcopy(FIRST))
    store: str = "data"
    mended: bool = False
    gone: set[str] = field(default_factory=set)
    spared: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    dump: tuple[str, Rows] | None = None
    run: Begun | None = None

    def __post_init__(self) -> None:
        self.unique = Unique(self.folder / "unique")
        self.ids = {
            name: self.fresh.mined(clip, "good", FIRST).video_id
            for name, clip in self.clips.items()
        }

    def walk(self, legs: int) -> None:
        """Walk from one plain run to the next, so many times."""
        self._configure()
        for name in ("a", "b", "broken"):
            self._add(name)
        self._begin_neighbour()
        for _ in range(legs):
            self._plain_run()
            for _ in range(self.chance.randint(1, 4)):
                self._step()
        self._plain_run()
        self.runs.nothing_left(self.site)

    # ---- steps

    def _step(self) -> None:
        steps: list[tuple[Callable[[], None], int]] = [
            (self._add_one, 3),
            (self._remove_one, 2),
            (self._repair, 1),
            (self._retry, 1),
            (self._change, 4),
            (self._visit, 3),
            (self._lose_notes, 1),
            (self._move, 1),
            (self._save, 2),
            (self._restore, 2),
            (self._delete, 5),
            (self._lose_image, 1),
            (self._sync, 1),
            (self._kill, 2),
            (self._stray, 2),
            (self._copy_away, 1),
        ]
        (step,) = self.chance.choices([s for s, _ in steps], [weight for _, weight in steps])
        if not (self.rows.held and step in (self._remove_one, self._retry, self._lose_image)):
            step()

    def _note_step(self, what: str) -> None:
        self.story.append(what)

    def _dataminer(self, *arguments: str) -> str:
        done = self.site.dataminer_here(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def _add_one(self) -> None:
        self._add(self.chance.choice(CLIPS))

    def _add(self, name: str) -> None:
        self._note_step(f"add {name}")
        self._dataminer("add-video", self.clips[name].source, "--project", "p")
        if name not in self.rows.members and name == "broken":
            self.rows.failed.add(name)  # its old failure may still lie there
        self.rows.members.add(name)
        self.unknown.discard(name)

    def _remove_one(self) -> None:
        name = self.chance.choice(sorted(self.rows.members))
        if self.rows.members <= {name, "broken"}:
            return  # a project of failures alone has no unique frames
        files = ["--files"] if self.chance.random() < 0.5 else []
        where = self.chance.choice([["--all-projects"], ["--project", "p"]])
        self._note_step(f"remove {name} {' '.join([*where, *files])}")
        self._dataminer("delete-videos", self.ids[name], "--yes", *where, *files)
        self.rows.members.remove(name)
        self.unknown.discard(name)

    def _repair(self) -> None:
        self._note_step("mend the broken one")
        if not self.mended:
            self.clips["broken"].put("good")
            self.mended = True

    def _retry(self) -> None:
        self._note_step("retry")
        done = self.site.dataminer_here("retry")
        assert done.returncode == 0, done.stderr
        if self.mended:
            self.rows.failed.discard("broken")

    def _change(self) -> None:
        section = self.chance.choice(sorted(CHOICES))
        self.settings[section] = self.chance.choice(CHOICES[section])
        self._note_step(f"set {section} to {self.settings[section]}")
        self._configure()

    def _configure(self) -> None:
        self.site.configure(project="p", store=self.store, **self.settings)

    def _visit(self) -> None:
        """Have another project of other settings mine the same videos, and look at what it has."""
        settings = {name: self.chance.choice(CHOICES[name]) for name in ("extract", "filter")}
        self._note_step(f"project q mines with {settings}")
        names = sorted(self.rows.members - {"broken"})
        for name in names:
            self._dataminer("add-video", self.clips[name].source, "--project", "q")
        self.site.configure(project="q", store=self.store, **{**self.settings, **settings})
        run = self._begin()
        assert run.end(_PATIENCE) == 0, run.printed
        self.rows.held = False
        rows = {row[0]: row[1:] for row in self.site.rows(_VIDEOS.format("q"))}
        for name in names:
            one = self.fresh.mined(self.clips[name], "good", {**self.settings, **settings})
            found = digests(self._store.filtered("q", one.video_id))
            assert found == digests(one.filtered), f"q's filtered frames of {name}: {run.printed}"
            counts = tuple(_count(folder) for folder in (one.frames, one.filtered))
            row = rows[one.video_id]
            assert (row[3], row[7]) == counts, f"q's row of {name}: {row}, not {counts}"
        self.runs.nothing_left(self.site)
        self._configure()

    def _lose_notes(self) -> None:
        self._note_step("lose .snakemake")
        shutil.rmtree(self.site.folder / ".snakemake", ignore_errors=True)

    def _move(self) -> None:
        old, self.store = self.store, f"moved/{len(self.story)}"
        self._note_step(f"move the store to {self.store}")
        new = self.site.folder / self.store
        new.parent.mkdir(exist_ok=True)
        if (self.site.folder / old).exists():
            (self.site.folder / old).rename(new)
        self._configure()

    def _begin_neighbour(self) -> None:
        self.neighbour.configure(project="p", **FIRST)
        done = self.neighbour.dataminer_here("add-video", self.clips["a"].source, "-p", "p")
        assert done.returncode == 0, done.stderr
        run = PLANNED.begin(self.neighbour)
        assert run.end(_PATIENCE) == 0, run.printed

    def _stray(self) -> None:
        """Take the other site's database, or its store, by mistake."""
        command = self.chance.choice(_STRAY)
        mistaken = self.chance.choice(["database", "store"])
        self._note_step(f"{command[0]} with the {mistaken} of the neighbour")
        site = self.site
        if mistaken == "database":
            site = replace(site, database=self.neighbour.database)
        else:
            self.site.configure(
                project="p", store=str(self.neighbour.folder / "data"), **self.settings
            )
        before = self._everything()
        done = site.dataminer_here(*command)
        assert done.returncode == 1 and "dataminer adopt -n" in done.stderr, done
        assert self._everything() == before
        self._configure()

    def _copy_away(self) -> None:
        """Have a copy of the store and the database go on by itself, and end badly."""
        command = self.chance.choice(_STRAY)
        self._note_step(f"{command[0]} in a copy")
        before = self._everything()
        copy = Site(self.folder / "copy", self._copy(self.site.database))
        shutil.copytree(self.site.folder / self.store, copy.folder / "data", symlinks=True)
        copy.configure(project="p", **self.settings)
        for words in (["adopt"], command):
            copy.dataminer_here(*words)
        assert self._everything() == before
        shutil.rmtree(copy.folder)
        drop(self.server, name_of(copy.database))

    def _everything(self) -> list[Any]:
        """Return all rows and files, of the neighbour as well."""
        stores = ((self.site, self.store), (self.neighbour, "data"))
        return [(site.dump(), site.listing(store)) for site, store in stores]

    def _save(self) -> None:
        self._note_step("dump")
        self.dump = (self._copy(self.site.database), deepcopy(self.rows))

    def _copy(self, database: str) -> str:
        end_sessions(replace(self.site, database=database))
        return create(self.server, name_of(database), "walk")

    def _restore(self) -> None:
        if self.dump is None:
            return
        database, rows = self.dump
        self._note_step("restore the dump")
        before = self.site.database
        self.site = replace(self.site, database=self._copy(database))
        drop(self.server, name_of(before))
        self.unknown |= self.rows.members - rows.members
        self.unknown -= rows.members
        self.rows = deepcopy(rows)
        if "broken" in rows.failed:  # what reports the failure may have been deleted since
            self.gone.add("broken")

    def _delete(self) -> None:
        name = self.chance.choice(sorted(self.rows.members))
        pattern = self.chance.choice(sorted([*LOST, "the video file"]))
        store = Store(self.site.folder / self.store)
        found = sorted(store.root.glob(pattern.format(self.ids[name])))
        path = self.chance.choice(found or [store.root / pattern.format(self.ids[name])])
        if pattern == "the video file":
            files = store.video(self.ids[name]).glob(f"{self.ids[name]}.*")
            path = next(files, path)
        self._note_step(f"delete {path.relative_to(store.root)} ({name})")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        told_by_one = name == "broken" and not pattern.startswith("projects")
        if LOST.get(pattern) == "frames" or told_by_one:
            self.gone.add(name)
            self.spared.add(name)
        elif LOST.get(pattern) == "dedup":
            self.unique.forget()

    def _lose_image(self) -> None:
        """Delete an image, and look for every image, as is to be done then."""
        store = Store(self.site.folder / self.store)
        name = self.chance.choice(sorted(self.rows.members))
        recipes = sorted(store.frames(self.ids[name]).glob("[!.]*/"))
        folders = [*recipes, store.filtered("p", self.ids[name])]
        images = sorted(self.chance.choice(folders).glob("*.[jt][pa][gr]"))
        if images:
            image = self.chance.choice(images)
            self._note_step(f"delete {image.relative_to(store.root)} and sync --deep")
            self.spared.add(name)
            image.unlink()
            self._synced("--deep")

    def _sync(self) -> None:
        self._note_step("sync")
        self._synced()

    def _synced(self, *options: str) -> None:
        self._dataminer("sync", *options)
        self.gone.clear()
        store = Store(self.site.folder / self.store)
        tables = {name: store.frames(self.ids[name]).glob("[!.]*/*.parquet") for name in self.ids}
        self.spared = {name for name in self.spared if any(tables[name])}
        known = {row[0] for row in self.site.rows(_VIDEOS.format("p"))}
        back = {name for name in self.unknown if self.ids[name] in known}
        self.rows.members |= back
        if "broken" in back:
            self.rows.failed.add("broken")
        self.unknown -= back

    def _kill(self) -> None:
        """Kill a run as a stage claims or records something, if it comes to that."""
        stage: StageRows = self.chance.choice([DOWNLOAD, EXTRACT, FILTER, DEDUP])
        at = self.chance.choice(["claims", "records"])
        self._note_step(f"kill a run that {at} {stage.name}")
        self.rows.held = True
        before = self._unique_mark()
        pauses = Pauses(self.site, (stage, at))
        run = self._begin()
        wait_for(lambda: run.ended or pauses.reached(stage), PATIENCE)
        if run.ended:
            self.story[-1] += ", which it did not come to"
            assert run.end(_PATIENCE) == 0, run.printed
        else:
            run.signal(signal.SIGKILL)
            run.end(_PATIENCE)
        end_sessions(self.site)
        self.site.rows(_PAUSES_GO)
        shutil.rmtree(self.site.folder / ".snakemake" / "locks", ignore_errors=True)
        if self._unique_mark() != before:  # dedup was done when the run was killed
            self.unique.follow(list(self._mined().values()), self._config)

    def _unique_mark(self) -> str | None:
        return (results.read_frames_meta(self._store.dedup("p")) or {}).get("fingerprint")

    # ---- a plain run, and what is there then

    def _begin(self) -> Begun:
        self.run = self.runs.begin(self.site)
        return self.run

    def _plain_run(self) -> None:
        self._note_step("PLAIN RUN")
        run = self._begin()
        assert run.end(_PATIENCE) == 0, run.printed
        self.rows.held = False
        try:
            self._check()
        except AssertionError as error:
            raise AssertionError(f"{error}\nThe run said:\n{run.printed}") from error

    @property
    def _config(self) -> Config:
        return load(self.site.config())

    @property
    def _store(self) -> Store:
        return Store(self.site.folder / self.store)

    def _mined(self) -> dict[str, Mined]:
        """Return what a fresh mining of each video of the project gives."""
        failed = {
            video_id
            for (video_id,) in self.site.rows("SELECT video_id FROM videos WHERE status = 'FAILED'")
        }
        found = {}
        for name in sorted(self.rows.members):
            version: ReleaseState = "good"
            if name == "broken" and (not self.mended or self.ids[name] in failed):
                version = "broken"
            found[name] = self.fresh.mined(self.clips[name], version, self.settings)
        return found

    def _check(self) -> None:
        mined = self._mined()
        self._check_rows(mined)
        for name, one in mined.items():
            if not one.failure:  # what is left of a failure may be of other settings
                self._check_frames(name, one)
                found = digests(self._store.filtered("p", one.video_id))
                assert found == digests(one.filtered), f"the filtered frames of {name}"
        expected = unique_frames(self.unique.follow(list(mined.values()), self._config))
        found_unique = unique_frames(self._store.dedup("p"))
        differ = [name for name in expected if found_unique.get(name) != expected[name]]
        assert found_unique == expected, f"the unique frames: {differ}, {sorted(found_unique)}"
        self._check_sync()
        planned.nothing_left(self.site)
        if self.runs.asks_each_time:
            self.runs.nothing_left(self.site)

    def _check_frames(self, name: str, one: Mined) -> None:
        folder = self._store.recipe(one.video_id, one.frames.name)
        if name in self.gone | self.spared and not (folder / FRAMES_FILE).exists():
            return  # nothing needed them since they were deleted
        self.gone.discard(name)
        self.spared.discard(name)
        assert digests(folder) == digests(one.frames), f"the frames of {name}"

    def _check_rows(self, mined: dict[str, Mined]) -> None:
        rows = {row[0]: row[1:] for row in self.site.rows(_VIDEOS.format("p"))}
        assert set(rows) == {one.video_id for one in mined.values()}, "the videos of the project"
        for name, one in mined.items():
            expected: tuple[Any, ...]
            if one.failure:
                assert name in self.rows.failed, f"{name} was tried again, and is {rows}"
                expected = ("FAILED", BROKEN, None, None, "FAILED", BROKEN, None, None)
            else:
                frames, passed = (_count(folder) for folder in (one.frames, one.filtered))
                status = "FILTERED" if passed else "FILTERED_EMPTY"
                expected = ("EXTRACTED", None, None, frames, status, None, None, passed)
                self.rows.failed.discard(name)
            assert rows[one.video_id] == expected, f"the rows of {name}"

    def _check_sync(self) -> None:
        done = self.site.dataminer_here("sync", "-n", "--json", "--project", "p")
        report = json.loads(done.stdout)
        ids = [self.ids[name] for name in self.gone | self.unknown]
        known = {*ids, *(f"p/{video_id}" for video_id in ids), *["p"][: len(ids)]}
        left = [
            repair
            for repair in report["mends"]  # frames that no project needs may be gone
            if repair["row"] not in known and not repair["after"].endswith("with other frames")
        ]
        assert not left, f"sync would mend {left}"


def _count(folder: Path) -> int:
    return int(read_table(folder / FRAMES_FILE).num_rows)


@contextmanager
def begun(
    folder: Path, server: str, template: str, seed: int, runs: Runs = SNAKEMAKE
) -> Iterator[Walk]:
    """Give a walk that has its clips and databases.

    Parameters
    ----------
    folder : Path
        An empty folder.
    server : str
        The URL of the database server.
    template : str
        The name of a database with the tables in it.
    seed : int
        Chooses the way.
    runs : Runs
        How plain runs are made.
    """
    with ExitStack() as stack:
        http = stack.enter_context(serve())
        clips = {}
        for name in CLIPS:
            path = folder / "clips" / f"{name}.mp4"
            source = http.add("/link.mp4", path) if name == "link" else str(path)
            clips[name] = Clip(name, path, source)
            clips[name].make()
            clips[name].put("broken" if name == "broken" else "good")
        fresh = Fresh(
            folder / "fresh", stack.enter_context(fresh_database(server, template, "fresh"))
        )
        site = Site(folder / "site", create(server, template, "walk"))
        neighbour = Site(folder / "neighbour", create(server, template, "walk"))
        for one in (site, neighbour):
            one.folder.mkdir()
        walk = Walk(folder, server, site, neighbour, clips, fresh, random.Random(seed), runs)
        try:
            yield walk
        finally:
            if walk.run and not walk.run.ended:
                walk.run.signal(signal.SIGKILL)
            dumped = [walk.dump[0]] if walk.dump else []
            for database in (walk.site.database, neighbour.database, *dumped):
                drop(server, name_of(database))


def go(walk: Walk, seed: int, legs: int) -> float:
    """Walk; return how many seconds it took. What goes wrong tells the way that led there."""
    begin = time.monotonic()
    try:
        walk.walk(legs)
    except Exception as error:
        steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(walk.story, 1))
        raise AssertionError(f"seed {seed}: after\n{steps}\n{error}") from error
    return time.monotonic() - begin
