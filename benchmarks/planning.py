"""`snakemake -n` of large projects: time and memory, whatever is there already.

Ours is `snakemake -n` with the default profile, in a folder and with a database of its own. Bare is
a workflow of three shell rules per video and one that takes all results, as anyone would write it,
with nothing done yet. Each round plans both, one after the other, and medians count. A plan that
has not the right jobs, or not the right number of videos in each stage, ends the benchmark. Times
are of the processor, unless they are named wall: the machine may have other work. With --slurm also
the plan of `--profile slurm`.

The states of a project of N videos:

  fresh              no video was begun
  half               half of the videos are finished
  finished_plus_one  all are finished, and so was their dataset when the last video was added
  moved_store        the same, and the store was renamed, with `store:` set to its new name
  restored_dump      the same, and the rows are older than all files: each file has to be read

A finished video has its rows, a video file of no bytes, and frame tables of nine images that carry
the fingerprints of the settings. All videos share one content, so that one table serves them all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from claims import fresh_database

from dataminer.config import Config, load
from dataminer.frames.arrays import make_table
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.provenance import fingerprints
from dataminer.provenance.fingerprints import recipe_id
from dataminer.store.layout import INFO_FILE, Store
from dataminer.sync.batches import partition

EXAMPLES = """
examples:
  python benchmarks/planning.py
  python benchmarks/planning.py --json
  python benchmarks/planning.py --videos 1000 --states fresh finished_plus_one --rounds 1
  python benchmarks/planning.py --videos 10000 --states fresh --slurm

Without DATABASE_URL an embedded server of its own is made in a temporary folder. With one, a
database of its own is made on that server, and dropped at the end.
"""
ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
PROJECT = "p"
BARE = """
VIDEOS = [f"v{number}" for number in range(1, config["videos"] + 1)]

rule all:
    input:
        expand("filtered/{video}/frames.parquet", video=VIDEOS)

rule download:
    output:
        "videos/{video}/info.json"
    shell:
        "touch {output}"

rule extract:
    input:
        "videos/{video}/info.json"
    output:
        "frames/{video}/frames.parquet"
    shell:
        "touch {output}"

rule filter:
    input:
        "frames/{video}/frames.parquet"
    output:
        "filtered/{video}/frames.parquet"
    shell:
        "touch {output}"
"""
# lengths as they are on YouTube: most of some minutes, some of an hour
SHORTEST, STEP, LENGTHS = 60, 20, 30
LENGTH = (
    f"UPDATE videos SET duration = {SHORTEST} + {STEP} * (substr(video_id, 2)::int % {LENGTHS})"
)
FINISH = {
    "videos": """
        UPDATE videos SET status = 'EXTRACTED', video_path = 'x', frames_dir = 'x',
            frame_count = %(images)s, downloaded_with = %(download)s, extracted_with = %(extract)s,
            extract_fingerprint = %(frames)s, sha256 = %(sha256)s
        WHERE substr(video_id, 2)::int <= %(finished)s
        """,
    "project_videos": """
        UPDATE project_videos SET status = 'FILTERED', filtered_dir = 'x',
            passed_frames = %(images)s, filtered_with = %(filter)s, filtered_from = %(frames)s,
            filter_fingerprint = %(filtered)s
        WHERE substr(video_id, 2)::int <= %(finished)s
        """,
}
FORGET = {
    "videos": """
        UPDATE videos SET status = 'PENDING', video_path = NULL, frames_dir = NULL,
            frame_count = NULL, downloaded_with = NULL, extracted_with = NULL,
            extract_fingerprint = NULL, sha256 = NULL
        """,
    "project_videos": """
        UPDATE project_videos SET status = 'PENDING', filtered_dir = NULL, passed_frames = NULL,
            filtered_with = NULL, filtered_from = NULL, filter_fingerprint = NULL
        """,
}
STATES = ("fresh", "half", "finished_plus_one", "moved_store", "restored_dump")
STAGES = ("download", "extract", "filter")
IMAGES = [f"{number:06d}.jpg" for number in range(9)]
SHA256 = "0" * 64
CORES = 2
BATCH_SECONDS = 1800  # of a job on this machine, by our estimate; see dataminer/workflow/run.py
MOST_VIDEOS = 200  # of a job on a cluster
SLURM = ROOT / "profiles" / "slurm"


@dataclass(frozen=True)
class Cost:
    """What a plan took."""

    cpu: float
    wall: float
    mb: float


class Site:
    """A working directory with ``videos`` videos, and their rows in a database."""

    def __init__(self, folder: Path, kept: Any, videos: int) -> None:
        self.folder, self.kept, self.videos = folder, kept, videos
        self.finished = 0
        (folder / "weights.pt").touch()  # a rule that fetches them would be a job more
        (folder / "config").mkdir()
        self.config = self.configure("data")
        kept.cursor().execute(LENGTH)

    def configure(self, store: str) -> Config:
        """Write the configuration, which names the store."""
        values = {"project": PROJECT, "store": store, "detect": {"model": "weights.pt"}}
        (self.folder / "config" / "config.yaml").write_text(yaml.safe_dump(values))
        return load(values)

    @property
    def store(self) -> Store:
        """The store, wherever it is now."""
        return Store(self.folder / self.config.store)

    def bring_to(self, state: str) -> None:
        """Have the project in a state; states come in their order."""
        if state == "half":
            self.finish(self.videos // 2)
        elif state != "fresh":
            self.finish(self.videos - 1)
            self.finish_project()
            self.move("moved" if state == "moved_store" else "data")
        if state == "restored_dump":
            self.change_rows(FORGET)

    def finish(self, count: int) -> None:
        """Mark the first videos as finished, in the database and in the store."""
        if count == self.finished:
            return
        files = StoreFiles(self.store, self.config)
        for number in range(self.finished + 1, count + 1):
            files.make(f"v{number}")
        # after the files, as a stage does: what is newer than its row is read again
        self.change_rows(
            FINISH, {"finished": count, "images": len(IMAGES), **fingerprints_of(self.config)}
        )
        self.finished = count

    def finish_project(self) -> None:
        """Have the dataset there, as it was before the last video was added."""
        store = self.store
        for file in (
            *(store.dedup(PROJECT) / name for name in ("frames.parquet", "clusters.parquet")),
            *(store.detect(PROJECT) / name for name in ("annotations.json", "data.yaml")),
            *(store.report(PROJECT) / name for name in ("contact_sheet.jpg", "index.html")),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def move(self, store: str) -> None:
        """Rename the store, and say so in the configuration."""
        before = self.store.root
        self.config = self.configure(store)
        before.rename(self.store.root)

    def change_rows(self, statements: dict[str, str], values: dict[str, Any] | None = None) -> None:
        """Change rows in a way that no stage does."""
        with self.kept.cursor() as cursor:
            for table, statement in statements.items():
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER transition")
                cursor.execute(statement, values)
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER transition")
                cursor.execute(f"VACUUM ANALYZE {table}")

    def expected(self, state: str, cluster: bool = False) -> dict[str, int]:
        """Return what a right plan has: the jobs of each rule, and the videos of each stage."""
        left = range(self.finished + 1, self.videos + 1)
        count = (batches_on_cluster if cluster else batches_here)(left)
        stages = dict.fromkeys(STAGES, count)
        stages |= {f"videos to {stage}": len(left) for stage in STAGES}
        lag = {"take_up": 1} if state == "restored_dump" else {}
        return {"all": 1, "batches": 1, "dedup": 1, "detect": 1, "report": 1, **stages, **lag}


class StoreFiles:
    """What finished videos have in a store."""

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.fingerprints = store, fingerprints_of(config)
        info = {"video": "x", "size_bytes": 0, "sha256": SHA256, "title": "Title", "duration": 60.0}
        info |= {"made_with": self.fingerprints["download"], "fingerprint": "download"}
        self.info = json.dumps(info)
        self.frames = self.table("extract", "frames", frames=len(IMAGES))
        of_frames = {"filtered_from": self.fingerprints["frames"], "passed": len(IMAGES)}
        self.filtered = self.table("filter", "filtered", **of_frames)

    def table(self, stage: str, made: str, **more: Any) -> bytes:
        """Return the bytes of a frame table that carries what rows carry."""
        rows = len(IMAGES)
        columns: dict[str, Any] = {
            field.name: [None] * rows if field.nullable else np.zeros(rows)
            for field in FRAMES_SCHEMA
        }
        columns |= {"video_id": ["v1"] * rows, "file_name": IMAGES, "frame_index": np.arange(rows)}
        about = {
            "fingerprint": self.fingerprints[made],
            "made_with": self.fingerprints[stage],
            **more,
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FRAMES_FILE
            write_table(file, make_table(columns, FRAMES_SCHEMA), FRAMES_SCHEMA, about, ready=True)
            return file.read_bytes()

    def make(self, video: str) -> None:
        """Make the files of a finished video."""
        folders = self.store.video(video), self.store.recipe(video, self.fingerprints["frames"])
        passed = self.store.filtered(PROJECT, video)
        for folder in (*folders, passed):
            folder.mkdir(parents=True)
        (folders[0] / "x").touch()
        (folders[0] / INFO_FILE).write_text(self.info)
        for folder, table in ((folders[1], self.frames), (passed, self.filtered)):
            (folder / FRAMES_FILE).write_bytes(table)
        for image in IMAGES:
            (folders[1] / image).touch()
            os.link(folders[1] / image, passed / image)


def fingerprints_of(config: Config) -> dict[str, str]:
    """Return what rows and files of finished videos carry."""
    settings = {stage: getattr(config, stage).result_settings() for stage in STAGES}
    frames = fingerprints.of_extract(settings["extract"], SHA256)
    filtered = fingerprints.of_filter(settings["filter"], frames)
    made = {stage: recipe_id(stage, used) for stage, used in settings.items()}
    return {**made, "frames": frames, "filtered": filtered, "sha256": SHA256}


def batches_here(videos: range) -> int:
    """Return how many batches these videos are on this machine: a few are a batch each."""
    if len(videos) <= partition.MAX_ONE_VIDEO_BATCHES:
        return len(videos)
    return math.ceil(work(videos) / (BATCH_SECONDS * CORES))


def batches_on_cluster(videos: range) -> int:
    """Return how many batches these videos are with the profile's cluster."""
    profile = yaml.safe_load((SLURM / "config.yaml").read_text())
    limits = dict(limit.split("=") for limit in profile["resources"])
    seconds = 60 * int(limits["job_minutes"]) * int(limits["job_slots"])
    return max(math.ceil(work(videos) / seconds), math.ceil(len(videos) / MOST_VIDEOS))


def work(videos: range) -> float:
    """Return the seconds that we estimate for these videos."""
    return sum(partition.estimate(SHORTEST + STEP * (number % LENGTHS)) for number in videos)


def ours(site: Site, *options: str) -> list[str]:
    """Return the command that plans a site."""
    where = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(site.folder)]
    return [str(SNAKEMAKE), *where, f"-c{CORES}", *options, "-n"]


def bare(folder: Path, videos: int) -> list[str]:
    """Return the command that plans the bare workflow, which is written first."""
    (folder / "Snakefile").write_text(BARE)
    where = ["--snakefile", str(folder / "Snakefile"), "--directory", str(folder)]
    return [str(SNAKEMAKE), *where, f"-c{CORES}", "--config", f"videos={videos}", "-n"]


def cost(command: list[str], expected: dict[str, int]) -> Cost:
    """Plan once, see that the plan is the right one, and say what it took."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        shown = output.read()
        found = jobs(shown) | due(shown)
        if process.returncode or found != expected:
            problem = f"{' '.join(command)}: the plan is {found} instead of {expected}"
            raise SystemExit(f"{errors.read()[-2000:]}\n{problem}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def jobs(output: str) -> dict[str, int]:
    """Count the jobs of a plan by rule, from Snakemake's own table."""
    table = output.partition("Job stats:\n")[2].partition("\n\n")[0].splitlines()[2:]
    counts = {name: int(count) for name, count in (line.split() for line in table)}
    counts.pop("total", None)
    return counts


def due(output: str) -> dict[str, int]:
    """Count the videos of a plan by stage, from what we say of it."""
    found = re.findall(r"^dataminer: (\w+)[\w ]*: (\d+) due", output, re.MULTILINE)
    return {f"videos to {stage}": int(count) for stage, count in found}


def median(costs: Iterable[Cost]) -> Cost:
    """Return the medians of each figure."""
    found = list(costs)
    return Cost(*(statistics.median(getattr(c, name) for c in found) for name in vars(found[0])))


@contextmanager
def project(videos: int) -> Iterator[Site]:
    """Make a project of ``videos`` videos, none of them begun."""
    with tempfile.TemporaryDirectory() as folder, fresh_database(videos) as kept:
        yield Site(Path(folder), kept, videos)


def measure(
    videos: int, states: Sequence[str], rounds: int, *, slurm: bool = False, beside: bool = True
) -> dict[str, Cost]:
    """Plan a project in each state.

    Parameters
    ----------
    videos : int
        How many.
    states : sequence of str
        Of :data:`STATES`, in their order.
    rounds : int
        How often each plan is made.
    slurm : bool
        Plan for the cluster's profile as well.
    beside : bool
        Plan the bare workflow as well, in turns with the first state.

    Returns
    -------
    dict of str to Cost
        The medians of each state, of ``STATE_slurm``, and of ``bare``.
    """
    costs: dict[str, Cost] = {}
    stages = dict.fromkeys(STAGES, videos)
    with project(videos) as site, tempfile.TemporaryDirectory() as folder:
        for state in states:
            site.bring_to(state)
            plans = {state: (ours(site), site.expected(state))}
            if slurm:
                command = ours(site, "--profile", str(SLURM))
                plans[f"{state}_slurm"] = (command, site.expected(state, cluster=True))
            if beside and state == states[0]:
                plans["bare"] = (bare(Path(folder), videos), {"all": 1, **stages})
            turns = [{name: cost(*plan) for name, plan in plans.items()} for _ in range(rounds)]
            costs |= {name: median(turn[name] for turn in turns) for name in plans}
    return costs


def short(videos: int) -> str:
    """Shorten a number of videos for a key."""
    return f"{videos // 1000}k" if videos % 1000 == 0 else str(videos)


def ratios(found: dict[int, dict[str, Cost]]) -> dict[str, float]:
    """Return each state against bare and fresh, and how the cost grows with the videos."""
    table: dict[str, float] = {}
    pairs = [(state, "bare") for state in STATES]
    pairs += [(state, "fresh") for state in STATES[1:]]
    pairs += [(f"{state}_slurm", state) for state in STATES]
    for videos, costs in found.items():
        for one, other in pairs:
            if one in costs and other in costs:
                key = f"{one}_vs_{other}_{short(videos)}"
                table[key] = costs[one].cpu / costs[other].cpu
                table[f"{key}_wall"] = costs[one].wall / costs[other].wall
        for name, took in costs.items():
            table[f"{name}_peak_mb_{short(videos)}"] = took.mb
    sizes = sorted(found)
    for small, large in itertools.pairwise(sizes):
        for name in found[small].keys() & found[large].keys():
            times = found[large][name].cpu / found[small][name].cpu
            span = f"{name}_{short(small)}_to_{short(large)}"
            table[f"growth_{span}"] = times
            table[f"exponent_{span}"] = math.log(times) / math.log(large / small)
    return dict(sorted(table.items()))


def print_table(found: dict[int, dict[str, Cost]], compared: dict[str, float]) -> None:
    """Print the figures for people."""
    print(f"{'videos':>8}  {'state':24} {'cpu s':>8} {'wall s':>8} {'peak MB':>8}")
    for videos, costs in found.items():
        for name, took in costs.items():
            figures = f"{took.cpu:8.1f} {took.wall:8.1f} {took.mb:8.0f}"
            print(f"{videos:8,}  {name:24} {figures}")
    print("\nratios of processor time, unless the name says wall")
    for name, value in compared.items():
        print(f"  {name:44} {value:10.3g}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--videos", type=int, nargs="+", default=[1000, 10_000, 30_000])
    parser.add_argument(
        "--states", nargs="+", choices=STATES, default=list(STATES), metavar="STATE"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each plan is made")
    parser.add_argument("--slurm", action="store_true", help="also with --profile slurm")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the figures."""
    options = arguments()
    states = [state for state in STATES if state in options.states]
    found = {
        videos: measure(videos, states, options.rounds, slurm=options.slurm)
        for videos in sorted(options.videos)
    }
    compared = ratios(found)
    if options.json:
        figures = {name: float(f"{value:.3g}") for name, value in compared.items()}
        json.dump({"videos": sorted(options.videos), **figures}, sys.stdout, indent=2)
        print()
    else:
        print_table(found, compared)


if __name__ == "__main__":
    main()
