"""Random stories of stores and databases that are moved, copied and taken for each other.

The model knows which of them are pairs. Whatever a command is given, it works on a pair or is
refused, and it never touches a row or a file of another store or database.

The same few stories each time; DATAMINER_TEST_STORIES=1000 has as many others told.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataminer.config import MonitorConfig
from dataminer.store.layout import Store
from dataminer.sync.pairing.records import STORE_FILE, NotAPair
from dataminer.sync.repair.run_hooks import bring_up_to_date
from tests.support import rows
from tests.support.postgres import create, drop, execute, name_of
from tests.support.runs import end_sessions
from tests.support.site import Site
from tests.support.stores import make_dataset, make_video, sync

COMMANDS = {
    "sync": ["sync", "--deep"],
    "add": ["add-video", "https://example.org/new.mp4", "-p", "p"],
    "delete": ["delete-videos", "shared", "--files", "--yes"],
    "take out": ["delete-videos", "shared", "--project", "p", "--files", "--yes"],
    "drop": ["delete-project", "p", "--files", "--videos", "--yes"],
    "clean": ["cleanup-orphans", "--files", "--rows", "--yes"],
    "force": ["force-dedup", "p", "--yes"],
    "retry": ["retry"],
}
# what a pair answers that has lost what a command asks for
NOTHING_THERE = ("there is no project", "there is no video", "no video", "the database is empty")
SEEDS = (17, 21)
STEPS = 25
PATHS = ("video_path", "frames_dir", "filtered_dir", "dedup_dir", "detect_dir")


@dataclass(eq=False)
class Folder:
    """A store; copies of one are of one line."""

    path: Path
    line: int


@dataclass(eq=False)
class Database:
    """A database, and where it saw its store last; dumps of one are of one line.

    One that was restored is nobody's until it is used.
    """

    url: str
    line: int
    saw: Path
    restored: bool = False


class Pairs:
    """People who move, copy, restore and mistake what there is."""

    def __init__(self, server: str, template: str, home: Path, seed: int) -> None:
        self._server, self._template, self._home = server, template, home
        self._chance = random.Random(seed)
        self._stores: list[Folder] = []
        self._databases: list[Database] = []
        self._pairs: list[tuple[Folder, Database]] = []
        self._made = 0
        self.counts: Counter[str] = Counter()
        self.story: list[str] = []

    def walk(self, steps: int) -> None:
        """Begin with two pairs, and go on at random."""
        try:
            self._two_projects()
            for _ in range(steps):
                self._step()
        finally:
            for database in self._databases:
                drop(self._server, name_of(database.url))

    def _two_projects(self) -> None:
        """Make two stores with a database each; one of the videos is in both."""
        for own in ("a", "b"):
            path = self._home / self._name()
            url = create(self._server, self._template, "pairs")
            folder, database = Folder(path, self._made), Database(url, self._made, path)
            self._stores.append(folder)
            self._databases.append(database)
            with self._site(folder, database).inside():
                for video in (own, "shared"):
                    make_video(Store(path), video)
                make_dataset(Store(path), "p", [own, "shared"])
                rows.add("p", own, "shared")
                sync(Store(path))
            assert self._use(folder, database, None) == ""
            self._pairs.append((folder, database))

    def _name(self) -> str:
        self._made += 1
        return f"store{self._made}"

    def _site(self, folder: Folder, database: Database) -> Site:
        site = Site(self._home / "work", database.url)
        site.folder.mkdir(exist_ok=True)
        site.configure(project="p", store=str(folder.path))
        return site

    # ---- what people do

    def _step(self) -> None:
        steps: dict[Callable[[], None], int] = {
            self._command_of_any: 8,
            self._command_of_a_pair: 4,
            self._move: 2,
            self._copy: 1,
            self._copy_database: 1,
            self._restore: 1,
            self._adopt: 2,
        }
        (step,) = self._chance.choices(list(steps), list(steps.values()))
        step()

    def _note_step(self, what: str, folder: Folder, database: Database | None = None) -> None:
        known = f" with database {self._databases.index(database)}" if database else ""
        self.story.append(f"{what}: store {self._stores.index(folder)}{known}")

    def _any(self) -> tuple[Folder, Database]:
        return self._chance.choice(self._stores), self._chance.choice(self._databases)

    def _command_of_any(self) -> None:
        self._command(*self._any(), self._chance.choice([None, *COMMANDS]))

    def _command_of_a_pair(self) -> None:
        name = self._chance.choice([None, "sync", "add", "clean", "force", "retry"])
        assert self._command(*self._chance.choice(self._pairs), name), "a pair is a pair"

    def _move(self) -> None:
        folder = self._chance.choice(self._stores)
        self._note_step("move", folder)
        path = self._home / self._name()
        folder.path.rename(path)
        folder.path = path
        self.counts["moved"] += 1

    def _copy(self) -> None:
        folder = self._chance.choice(self._stores)
        self._note_step("copy", folder)
        path = self._home / self._name()
        shutil.copytree(folder.path, path)
        self._stores.append(Folder(path, folder.line))

    def _copy_database(self) -> None:
        chosen = self._chance.choice(self._databases)
        self.story.append(f"copy database {self._databases.index(chosen)}")
        self._databases.append(Database(self._dumped(chosen), chosen.line, chosen.saw))

    def _restore(self) -> None:
        """Lose a database, and restore a dump of it."""
        chosen = self._chance.choice(self._databases)
        self.story.append(f"restore database {self._databases.index(chosen)}")
        lost, chosen.url, chosen.restored = chosen.url, self._dumped(chosen), True
        drop(self._server, name_of(lost))
        self.counts["restored"] += 1

    def _dumped(self, database: Database) -> str:
        end_sessions(Site(self._home, database.url))
        return create(self._server, name_of(database.url), "pairs")

    def _adopt(self) -> None:
        folder, database = self._any()
        self._note_step("adopt", folder, database)
        before, pathless = self._observe(), self._rows(database, paths=False)
        store_file = str(folder.path / STORE_FILE)
        assert self._use(folder, database, ["adopt", "-n"]) == ""
        assert self._observe() == before
        assert self._use(folder, database, ["adopt"]) == ""
        adopted = self._observe()
        assert _but(adopted, store_file, database.url) == _but(before, store_file, database.url)
        assert self._rows(database, paths=False) == pathless
        if adopted == before:
            assert (folder, database) in self._pairs
        elif self._chance.random() < 0.5:
            self._note_step("undo", folder, database)
            assert self._use(folder, database, ["adopt", "--undo"]) == ""
            assert self._observe() == before
            self.counts["undone"] += 1
        else:
            self._made += 1
            folder.line = database.line = self._made
            self._bind(folder, database)
            self.counts["adopted"] += 1

    # ---- what must be

    def _command(self, folder: Folder, database: Database, name: str | None) -> bool:
        """Give a command; tell whether it was carried out."""
        self._note_step(name or "run", folder, database)
        before = self._observe()
        printed = self._use(folder, database, COMMANDS[name] if name else None)
        after = self._observe()
        if any(words in printed for words in NOTHING_THERE) and after == before:
            return True
        if printed and not any(words in printed for words in NOTHING_THERE):
            assert "`dataminer adopt -n " in printed, printed
            assert after == before, printed
            assert (folder, database) not in self._pairs, printed
            self.counts["refused"] += 1
            return False
        inside = str(folder.path)
        assert _but(after, inside, database.url) == _but(before, inside, database.url)
        if (folder, database) not in self._pairs and name != "add":
            self._see_why(folder, database)
            self._bind(folder, database)
        database.saw = folder.path
        if (folder, database) in self._pairs:
            database.restored = False
        self.counts["carried out"] += 1
        return True

    def _see_why(self, folder: Folder, database: Database) -> None:
        """What is no pair yet may be one only if nothing better is there."""
        assert folder.line == database.line
        assert all(d.restored for f, d in self._pairs if f is folder), "its database is there"
        # the store that the database knows is gone from where it was: this may be it, moved
        there = {store.path: store.line for store in self._stores}
        assert folder.path == database.saw or there.get(database.saw) != database.line
        self.counts["taken over"] += 1

    def _bind(self, folder: Folder, database: Database) -> None:
        self._pairs = [(f, d) for f, d in self._pairs if f is not folder and d is not database]
        self._pairs.append((folder, database))
        database.saw = folder.path

    def _use(self, folder: Folder, database: Database, words: Sequence[str] | None) -> str:
        """Give a command, or begin a run; return why it was not carried out."""
        site = self._site(folder, database)
        if words is not None:
            done = site.dataminer_here(*words)
            return done.stderr if done.returncode else ""
        with site.inside(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            try:
                bring_up_to_date(["p"], MonitorConfig(), Store(folder.path))
            except NotAPair as error:
                return str(error)
        return ""

    def _observe(self) -> dict[str, Any]:
        """Return all files of all stores, and all rows of all databases."""
        files = {
            str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino)
            if path.name != STORE_FILE
            else path.read_bytes()
            for folder in self._stores
            for path in folder.path.rglob("*")
        }
        return files | {d.url: self._rows(d) for d in self._databases}

    def _rows(self, database: Database, *, paths: bool = True) -> list[Any]:
        less = "" if paths else "".join(f" - '{column}'" for column in PATHS)
        tables = ("projects", "videos", "project_videos", *(["dataminer_store"] if paths else []))
        queries = (f"SELECT '{name}', (to_jsonb(t){less})::text FROM {name} t" for name in tables)
        return execute(database.url, f"{' UNION ALL '.join(queries)} ORDER BY 1, 2")


def _but(seen: dict[str, Any], *left_out: str) -> dict[str, Any]:
    return {
        name: value
        for name, value in seen.items()
        if not any(name == one or name.startswith(f"{one}/") for one in left_out)
    }


@pytest.mark.timeout(3600)
def test_no_story_mixes_stores_or_databases(server: str, template: str, tmp_path: Path) -> None:
    stories = os.environ.get("DATAMINER_TEST_STORIES")
    seeds = [random.randrange(10**6) for _ in range(int(stories))] if stories else SEEDS
    counts: Counter[str] = Counter()
    for seed in seeds:
        home = tmp_path / str(seed)
        home.mkdir()
        pairs = Pairs(server, template, home, seed)
        try:
            pairs.walk(STEPS)
        except Exception as error:
            steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(pairs.story, 1))
            raise AssertionError(f"seed {seed}: after\n{steps}\n{error}") from error
        shutil.rmtree(home)
        counts += pairs.counts
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    happened = ("refused", "carried out", "moved", "restored", "taken over", "adopted", "undone")
    assert {*happened} <= counts.keys()
