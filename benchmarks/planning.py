"""`snakemake -n` of large projects: time and memory, fresh, half done, and all done but one.

Ours is `snakemake -n` with the default profile, in a folder and with a database of its own. Bare is
a workflow of three shell rules a video and one that takes all results, as anyone would write it, of
the same job count; each round plans both, one after the other, and medians count. Finished videos
are rows and empty files in the right order; finished projects, what `snakemake --touch` records. A
plan whose jobs are not the right ones ends the benchmark. Times are of the processor, unless they
are named wall: the machine may have other work. With --slurm also the plan of `--profile slurm`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from claims import fresh_database

from dataminer.config import Config, load
from dataminer.stages import made_with
from dataminer.store import Store

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
LENGTHS = "UPDATE videos SET duration = 60 + 20 * (substr(video_id, 2)::int % 30)"
FINISHED = {
    "videos": """
        UPDATE videos SET status = 'EXTRACTED', video_path = 'x', frames_dir = 'x',
            frame_count = 9, downloaded_with = %(download)s, extracted_with = %(extract)s
        WHERE substr(video_id, 2)::int <= %(finished)s
        """,
    "project_videos": """
        UPDATE project_videos SET status = 'FILTERED', filtered_dir = 'x', passed_frames = 7,
            filtered_with = %(filter)s
        WHERE substr(video_id, 2)::int <= %(finished)s
        """,
}
STATES = ("fresh", "half", "finished_plus_one")


@dataclass(frozen=True)
class Cost:
    """What a plan took."""

    cpu: float
    wall: float
    mb: float


class Site:
    """A working directory with so many videos, and the rows of the database that it goes with."""

    def __init__(self, folder: Path, kept: Any, videos: int) -> None:
        self.folder, self.kept, self.videos = folder, kept, videos
        self.began, self.finished = time.time() - 10 * videos, 0
        self.store = Store(folder / "data")
        # weights that are there: a rule that fetches them would be a job more
        make(folder / "weights.pt", 0)
        values = {"project": PROJECT, "detect": {"model": "weights.pt"}}
        (folder / "config").mkdir()
        (folder / "config" / "config.yaml").write_text(yaml.safe_dump(values))
        self.config = load(values)
        kept.cursor().execute(LENGTHS)

    def reach(self, state: str) -> None:
        """Have as many videos finished as a state says; states come in their order."""
        if state == "half":
            self.finish(self.videos // 2)
        elif state == "finished_plus_one":
            self.finish(self.videos - 1)
            self.finish_project()

    def finish(self, count: int) -> None:
        """Have the first so many videos finished, in the database and in the store."""
        marks = {"finished": count, **marks_of(self.config)}
        for table, statement in FINISHED.items():
            with self.kept.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER transition")
                cursor.execute(statement, marks)
                cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER transition")
                cursor.execute(f"VACUUM ANALYZE {table}")
        for number in range(self.finished + 1, count + 1):
            for step, file in enumerate(results_of(self.store, f"v{number}")):
                make(file, self.began + 3 * number + step)
        self.finished = count

    def finish_project(self) -> None:
        """Have the project finished as it was before its last video joined it."""
        for file in results_of_project(self.store):
            make(file, self.began)  # too old, so that Snakemake touches them, and takes notes
        last = f"v{self.videos}"
        cursor = self.kept.cursor()
        cursor.execute("DELETE FROM project_videos WHERE video_id = %s", (last,))
        subprocess.run(
            [*ours(self)[:-1], "--touch", "--no-hooks", "-q", "all"], cwd=self.folder, check=True
        )
        cursor.execute(
            "INSERT INTO project_videos (project_id, video_id) SELECT project_id, %s FROM projects",
            (last,),
        )

    def expected(self) -> dict[str, int]:
        """Return the jobs that a right plan has, by rule."""
        left = self.videos - self.finished
        stages = dict.fromkeys(("download", "extract", "filter"), left)
        return {"all": 1, "dedup": 1, "detect": 1, "report": 1, **stages}


def marks_of(config: Config) -> dict[str, str]:
    """Return what rows of finished videos carry."""
    return {
        "download": made_with("download", config.download.result_settings()),
        "extract": made_with("extract", config.extract.result_settings()),
        "filter": made_with("filter", config.filter.result_settings()),
    }


def results_of(store: Store, video: str) -> Iterator[Path]:
    """Give the files that a finished video has."""
    yield store.video(video) / "info.json"
    yield store.frames(video) / "frames.parquet"
    yield store.filtered(PROJECT, video) / "frames.parquet"


def results_of_project(store: Store) -> Iterator[Path]:
    """Give the files that a finished project has."""
    yield store.dedup(PROJECT) / "frames.parquet"
    yield store.dedup(PROJECT) / "clusters.parquet"
    yield store.detect(PROJECT) / "annotations.json"
    yield store.detect(PROJECT) / "data.yaml"
    yield store.report(PROJECT) / "contact_sheet.jpg"
    yield store.report(PROJECT) / "index.html"


def make(file: Path, when: float) -> None:
    """Make an empty file that is so old."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (when, when))


def ours(site: Site, *options: str) -> list[str]:
    """Return the command that plans a site."""
    where = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(site.folder)]
    return [str(SNAKEMAKE), *where, *options, "-n"]


def bare(folder: Path, videos: int) -> list[str]:
    """Return the command that plans the bare workflow, which is written first."""
    (folder / "Snakefile").write_text(BARE)
    where = ["--snakefile", str(folder / "Snakefile"), "--directory", str(folder)]
    return [str(SNAKEMAKE), *where, "-c2", "--config", f"videos={videos}", "-n"]


def cost(command: list[str], expected: dict[str, int]) -> Cost:
    """Plan once, see that the plan is the right one, and say what it took."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        found = jobs(output.read())
    if process.returncode or found != expected:
        raise SystemExit(f"{' '.join(command)}: the plan is {found} instead of {expected}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def jobs(output: str) -> dict[str, int]:
    """Count the jobs of a plan by rule, from Snakemake's own table."""
    table = output.partition("Job stats:\n")[2].partition("\n\n")[0].splitlines()[2:]
    counts = {name: int(count) for name, count in (line.split() for line in table)}
    counts.pop("total", None)
    return counts


def median(costs: Iterable[Cost]) -> Cost:
    """Return the medians of each figure."""
    found = list(costs)
    return Cost(*(statistics.median(getattr(c, name) for c in found) for name in vars(found[0])))


@contextmanager
def project(videos: int) -> Iterator[Site]:
    """Make a project of so many videos, none of them begun."""
    with tempfile.TemporaryDirectory() as folder, fresh_database(videos) as kept:
        yield Site(Path(folder), kept, videos)


def measure(videos: int, states: list[str], rounds: int, slurm: bool) -> dict[str, Cost]:
    """Plan a project of so many videos in each state, and the bare workflow beside it."""
    costs: dict[str, Cost] = {}
    stages = dict.fromkeys(("download", "extract", "filter"), videos)
    with project(videos) as site, tempfile.TemporaryDirectory() as beside:
        for state in states:
            site.reach(state)
            plans = {state: (ours(site), site.expected())}
            if slurm:
                profile = ("--profile", str(ROOT / "profiles" / "slurm"))
                plans[f"{state}_slurm"] = (ours(site, *profile), site.expected())
            if state == states[0]:
                plans["bare"] = (bare(Path(beside), videos), {"all": 1, **stages})
            turns = [{name: cost(*plan) for name, plan in plans.items()} for _ in range(rounds)]
            costs |= {name: median(turn[name] for turn in turns) for name in plans}
    return costs


def short(videos: int) -> str:
    """Name a number of videos in a key."""
    return f"{videos // 1000}k" if videos % 1000 == 0 else str(videos)


def ratios(found: dict[int, dict[str, Cost]]) -> dict[str, float]:
    """Return each state against another, and how the cost grows with the videos."""
    table: dict[str, float] = {}
    pairs = [("fresh", "bare"), *((state, "fresh") for state in STATES[1:])]
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
    parser.add_argument("--states", nargs="+", choices=STATES, default=list(STATES))
    parser.add_argument("--rounds", type=int, default=3, help="how often each plan is made")
    parser.add_argument("--slurm", action="store_true", help="also with --profile slurm")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the figures."""
    options = arguments()
    states = [state for state in STATES if state in options.states]
    found = {
        videos: measure(videos, states, options.rounds, options.slurm)
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
