"""What a run costs beside its work: processor time, wall time, plans of large projects, files.

A run is `snakemake -c2 only_filter` of a fresh project of local clips, after `dataminer populate`,
which is not counted. Its CPU is user and system time of all processes: Snakemake, its jobs, their
workers, and the embedded PostgreSQL with all its children. The functions are `probe`, `extract` and
`filter_frames` of dataminer.stages, called in a loop for the same clips by one process with one
thread, after one clip that is not counted: no database, no workflow, nothing imported meanwhile. A
run that does not finish every clip ends the benchmark. Both sides take turns, and each figure is
the ratio of the medians of all rounds.

The keys, by part:

  short   cpu_per_video_vs_work      CPU of a run over 500 clips of 5 s at 640x360
                                     / CPU of the functions for the same clips
          cpu_per_video_vs_work_100  the same for 100 clips
          cpu_per_video_vs_work_20   the same for 20 clips
  long    long_cpu_vs_work           CPU of a run over 16 clips of 5 minutes
                                     / CPU of the functions for the same clips
  mixed   mixed_wall_vs_two_workers  wall time of a run over 400 clips of 5 s and one of 20 minutes,
                                     less that of `snakemake -c2` in a workflow with nothing to do
                                     / wall time of the functions for the same clips in two
                                     processes, the longest clip first
  plans   plan_10000_vs_bare_STATE   CPU of `snakemake -n` with 10,000 videos in a state
                                     / CPU of `snakemake -n` for the bare workflow of 30,000 jobs;
                                     planning.py describes both, and the states
          plan_100000_vs_bare_10000  CPU of `snakemake -n` with 100,000 fresh videos
                                     / the same bare workflow of 30,000 jobs
  files   files_per_video            files and folders in the store, logs and .snakemake, without
                                     images and archives of frames, after a run over 24 clips, or
                                     after another with a changed filter: the greater
                                     / 24
  downloads  (with --peers only)
          download_cpu_vs_video2dataset, download_wall_vs_video2dataset
                                     a run over links to 500 clips of 5 s
                                     / video2dataset for the same links, with 32 threads
          download_cpu_vs_video2dataset_100, download_wall_vs_video2dataset_100
                                     the same for 100 clips
          download_bytes_vs_files    bytes that the server sent, in the run over 500
                                     / size of the files
          statements_per_video       SQL statements of another run over 500, all of them / 500
  slurm   slurm_cpu_per_video_vs_work   CPU of a run over 200 clips of 5 s at 640x360, on Slurm
                                        / CPU of the functions for the same clips
          slurm_jobs_per_1000_videos    Slurm jobs of that run, per 1,000 clips
          slurm_jobs_of_40              Slurm jobs of a run over 40 clips
          slurm_wall_vs_jobs            wall time of that run
                                        / wall time of its Slurm jobs one after the other

A run of `downloads` is `snakemake -c2 only_download`. Its links lead to a server on this machine,
which is not counted, and its limits are raised: concurrent_downloads 16, requests_per_minute
60,000, downloads_per_hour 1,000,000. What the peer needs is installed once, 5 GB in
~/.cache/dataminer-benchmarks.

A run on Slurm is `snakemake --profile slurm only_filter`, with the profile as it is. Its CPU is
that of Snakemake, of its jobs as Slurm's accounting has it, and of PostgreSQL; Slurm's daemons do
not count. It takes a Slurm on this machine: the one that is there, or else that of tests/slurm,
which needs root and Debian's packages. Without one, the part is left out.

The clips are made on the way (pans and zooms over photographs with noise, x264). Eight are encoded;
the others are copies that differ in a few bytes, and long ones are the eight in a row. --clips
keeps the eight for the next time. --scale 0.1 has a tenth of the clips and of the planned videos,
and long clips of a tenth of the length. Of short clips there are at least 13, of which no job has
only one; of long clips at least 2. On Slurm, the 40 clips stay 40.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NoReturn

import psutil
import psycopg2
import yaml
from claims import rounded, server
from downloads import Loopback, Peer, loopback
from extract import RATE, Measured, clocked, make_clip, moving_pictures
from planning import CORES, PROJECT, ROOT, SNAKEMAKE, due, measure
from populate import fresh_database

EXAMPLES = """
examples:
  python benchmarks/pipeline.py --clips /tmp/clips
  python benchmarks/pipeline.py --json
  python benchmarks/pipeline.py --peers --parts downloads
  python benchmarks/pipeline.py --parts short files --scale 0.1 --rounds 1

An embedded server of its own is made in a temporary folder, whatever DATABASE_URL names.
"""
PARTS = ("short", "long", "mixed", "plans", "files", "downloads", "slurm")
SIZE = (640, 360)
SECONDS = 5
ENCODED = 8
COUNTS = {"": 500, "_100": 100, "_20": 20}
LONG, LONG_SECONDS = 16, 5 * 60
MIXED, LONGEST_SECONDS = 400, 20 * 60
FILES = 100
DOWNLOADS = {"": 500, "_100": 100}
RAISED = {
    "concurrent_downloads": 16,
    "budget": {"others": {"requests_per_minute": 60_000, "downloads_per_hour": 1_000_000}},
}
ON_SLURM, FEW_ON_SLURM = 200, 40
SLURM = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sacct")
LEAST = 13  # short clips: fewer are a batch each, which is another case
STATES = ("fresh", "finished_plus_one", "moved_store", "restored_dump")
PLANNED, MANY = 10_000, 100_000
# what synthetic pictures have of sharpness says nothing
FILTER = {"min_sharpness": 0}
OTHER_FILTER = {**FILTER, "min_contrast": 0.021}
OF_FRAMES = {".jpg", ".png", ".webp", ".tar"}
DONE = "SELECT count(*) FROM project_videos WHERE status IN ('FILTERED', 'FILTERED_EMPTY')"
FETCHED = "SELECT count(*) FROM videos WHERE status = 'DOWNLOADED'"
LOGGED = "SELECT regexp_count(pg_read_file(pg_current_logfile()), ' LOG:  statement: ')"
NOTHING_TO_DO = 'rule made:\n    output:\n        "made"\n    shell:\n        "touch {output}"\n'


@dataclass(frozen=True)
class Took:
    """What a command took, in seconds."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class OnSlurm:
    """What a run on Slurm took: in all, its Slurm jobs, and their seconds one after the other."""

    took: Took
    jobs: int
    job_seconds: float


# ------------------------------------------------------------------------------------ the clips


class Clips:
    """Makes clips, in a folder that is new."""

    def __init__(self, folder: Path, encoded: Path) -> None:
        self._folder, self._kept = folder, encoded

    @cached_property
    def _encoded(self) -> list[Path]:
        return encode(self._kept)

    def short(self, count: int) -> list[Path]:
        """Make a number of clips of a few seconds."""
        return self._copies("short", self._encoded, count)

    def long(self, name: str, count: int, length: float) -> list[Path]:
        """Make a number of clips of one length."""
        joined = self._folder / f"{name}.mp4"
        join(self._encoded, joined, length)
        return self._copies(name, [joined], count)

    def _copies(self, name: str, sources: list[Path], count: int) -> list[Path]:
        copies = [self._folder / f"{name}-{number:04d}.mp4" for number in range(count)]
        for number, (path, source) in enumerate(zip(copies, itertools.cycle(sources))):
            # a box that every reader skips makes each file another
            box = struct.pack(">I4sQ", 16, b"free", number)
            path.write_bytes(source.read_bytes() + box)
        return copies


def encode(folder: Path) -> list[Path]:
    """Encode the clips that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = [folder / f"short-{number}.mp4" for number in range(ENCODED)]
    if not all(clip.exists() for clip in clips):
        pictures = moving_pictures(SIZE)
        for clip in clips:
            tell(f"making {clip.name}")
            make_clip(clip, "h264", SIZE, itertools.islice(pictures, SECONDS * RATE))
    return clips


def join(clips: list[Path], path: Path, length: float) -> None:
    """Put clips in a row, again and again, until they are so long."""
    row = itertools.islice(itertools.cycle(clips), max(1, round(length / SECONDS)))
    listed = path.with_suffix(".txt")
    listed.write_text("".join(f"file '{clip.absolute()}'\n" for clip in row))
    command = ["ffmpeg", "-v", "error", "-nostdin", "-f", "concat", "-safe", "0"]
    subprocess.run([*command, "-i", str(listed), "-c", "copy", str(path)], check=True)


# ----------------------------------------------------------------------------------- the runs


class Site:
    """A working directory with a fresh project of clips, or of links to them."""

    def __init__(self, folder: Path, clips: list[Path], links: Sequence[str] = ()) -> None:
        self.folder, self.clips, self.links = folder, clips, links
        self.log = folder / "output"
        self.configure(FILTER)
        dataminer = [str(SNAKEMAKE.with_name("dataminer")), "populate"]
        self._done(command(dataminer, folder, self.log))

    def configure(self, settings: dict[str, Any]) -> None:
        """Write the configuration."""
        listed = {"files": [str(clip) for clip in self.clips]}
        if self.links:
            listed = {"urls": [*self.links]}
        values = {"project": PROJECT, "input": listed, "filter": settings, "download": RAISED}
        (self.folder / "config").mkdir(exist_ok=True)
        (self.folder / "config" / "config.yaml").write_text(yaml.safe_dump(values))

    def run(self, *options: str, upto: str = "filter", done: str = DONE) -> Took:
        """Have all clips filtered, and see that they are; return what that took."""
        options = options or (f"-c{CORES}",)
        snakemake = [str(SNAKEMAKE), "--snakefile", str(ROOT / "Snakefile"), *options]
        with closing(psycopg2.connect(os.environ["DATABASE_URL"])) as connection:
            database = Server(connection)
            before = database.cpu()
            took = self._done(command([*snakemake, f"only_{upto}"], self.folder, self.log))
            of_server = database.cpu() - before
            finished = database.count(done)
        planned = due(self.log.read_text()).get(f"videos to {upto}")
        if not finished == planned == len(self.clips):
            self._stop(f"{planned} clips were planned, {finished} of {len(self.clips)} are done")
        return Took(took.cpu + of_server, took.wall)

    def run_on_slurm(self) -> OnSlurm:
        """Do the same on Slurm."""
        took = self.run("--profile", str(ROOT / "profiles" / "slurm"))
        (name,) = re.findall(r"^SLURM run ID: (\S+)", self.log.read_text(), re.M)
        jobs = accounted(name)
        cpu = took.cpu + sum(job.cpu for job in jobs)
        return OnSlurm(Took(cpu, took.wall), len(jobs), sum(job.wall for job in jobs))

    def left(self) -> int:
        """Count what runs have left, without the images and archives of frames."""
        roots = (self.folder / name for name in ("data", "logs", ".snakemake"))
        found = (path for root in roots for path in root.rglob("*"))
        return sum(path.is_dir() or path.suffix not in OF_FRAMES for path in found)

    def _done(self, took: Took | None) -> Took:
        if took is None:
            self._stop("the command failed")
        return took

    def _stop(self, why: str) -> NoReturn:
        raise SystemExit(f"{self.log.read_text()[-3000:]}\n{why}")


class Server:
    """The server behind a connection."""

    def __init__(self, connection: Any) -> None:
        connection.autocommit = True
        self._cursor = connection.cursor()
        parent = psutil.Process(self.count("SELECT pg_backend_pid()")).parent()
        assert parent
        self._postmaster = parent

    def count(self, query: str) -> int:
        """Return the number that a query asks for."""
        self._cursor.execute(query)
        return int(self._cursor.fetchone()[0])

    def cpu(self) -> float:
        """Return the CPU seconds of the server so far, with children that have ended."""
        live = [child.cpu_times() for child in self._postmaster.children()]
        own = self._postmaster.cpu_times()
        ended = own.children_user + own.children_system
        return float(ended + sum(times.user + times.system for times in (own, *live)))


@contextmanager
def site(clips: list[Path], links: Sequence[str] = ()) -> Iterator[Site]:
    """Make a fresh project of clips, or of links to them, with a database of its own."""
    with tempfile.TemporaryDirectory() as folder, fresh_database():
        yield Site(Path(folder), clips, links)


def command(words: list[str], folder: Path, log: Path) -> Took | None:
    """Run a command to its end, as after `source .venv/bin/activate`; None if it failed."""
    path = f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=folder, env={**os.environ, "PATH": path}, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    return None if process.returncode else Took(usage.ru_utime + usage.ru_stime, wall)


def run(clips: list[Path]) -> Took:
    """Run a fresh project of clips."""
    with site(clips) as made:
        return made.run()


def empty_start() -> Took:
    """Run Snakemake in a workflow with nothing to do."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Snakefile").write_text(NOTHING_TO_DO)
        (folder / "made").touch()
        took = command([str(SNAKEMAKE), f"-c{CORES}"], folder, folder / "output")
    if not took:
        raise SystemExit("snakemake failed with nothing to do")
    return took


# -------------------------------------------------------------------------------------- Slurm


@contextmanager
def slurm() -> Iterator[bool]:
    """Have a Slurm on this machine; tell whether there is one."""
    missing = [program for program in SLURM if not shutil.which(program)]
    if missing or os.geteuid():
        tell(f"slurm is left out: it needs {', '.join(missing) or 'root, to start its daemons'}")
        yield False
        return
    scripts = ROOT / "tests" / "slurm"
    with tempfile.TemporaryDirectory() as folder:
        started = subprocess.run([scripts / "start", folder], stdout=sys.stderr, check=False)
        if started.returncode not in (0, 3):  # 3: there is one
            raise SystemExit("Slurm does not start")
        try:
            yield True
        finally:
            if started.returncode == 0:
                subprocess.run([scripts / "stop", folder], check=True)


def accounted(name: str) -> list[Took]:
    """Return what Slurm's jobs of a name took, once the accounting knows."""
    columns = "JobID,State,ElapsedRaw,TotalCPU"
    sacct = ["sacct", "--name", name, "-n", "-P", "-o", columns]
    for _ in range(60):
        listing = subprocess.run(sacct, capture_output=True, text=True, check=True).stdout
        rows = [line.split("|") for line in listing.splitlines()]
        jobs = [Took(seconds(cpu), float(wall)) for job, _, wall, cpu in rows if "." not in job]
        if jobs and all(row[1] == "COMPLETED" for row in rows) and all(job.cpu for job in jobs):
            return jobs
        time.sleep(0.5)
    raise SystemExit(f"{listing}\nSlurm's accounting does not say what the jobs took")


def seconds(text: str) -> float:
    """Read a time as sacct writes it: [[days-]hours:]minutes:seconds."""
    days, _, rest = text.rpartition("-")
    parts = [float(part) for part in reversed(rest.split(":"))]
    return sum(part * 60.0**power for power, part in enumerate(parts)) + 86400 * float(days or 0)


# ------------------------------------------------------------------------------ the functions


def functions(clips: list[Path], processes: int = 1) -> Took:
    """Call the functions for clips, in new processes."""
    request = json.dumps([[str(clip) for clip in clips], processes])
    command = [sys.executable, __file__, "--worker", request]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return Took(**json.loads(result.stdout))


def worker(request: str) -> None:
    """Call the functions for clips, and print what that took."""
    names, processes = json.loads(request)
    clips = [Path(name) for name in names]
    with tempfile.TemporaryDirectory() as out:
        took = one_by_one(clips, out) if processes == 1 else shared(clips, out, processes)
    print(json.dumps(took))


def one_by_one(clips: list[Path], out: str) -> Measured:
    """Call the functions for one clip after the other."""
    warm_up(clips[0])
    took: Measured = {}
    with clocked(took):
        for clip in clips:
            call(clip, out)
    return took


def shared(clips: list[Path], out: str, processes: int) -> Measured:
    """Call the functions in processes that take one clip at a time; the wall time counts."""
    ready = multiprocessing.Barrier(processes + 1)
    largest_first = sorted(clips, key=lambda clip: -clip.stat().st_size)
    work = [(clip, out) for clip in largest_first]
    took: Measured = {}
    with multiprocessing.Pool(processes, warm_up, (largest_first[-1], ready)) as pool:
        ready.wait()
        with clocked(took):
            pool.starmap(call, work, chunksize=1)
    return took


def warm_up(clip: Path, ready: Barrier | None = None) -> None:
    """Have libraries loaded and set up."""
    with tempfile.TemporaryDirectory() as out:
        call(clip, out)
    if ready:
        ready.wait()


def call(clip: Path, out: str) -> None:
    """Take frames out of a clip and filter them, and do nothing else."""
    from dataminer.config.models import ExtractConfig, FilterConfig
    from dataminer.stages.extract.stage import extract
    from dataminer.stages.filter.stage import filter_frames
    from dataminer.video.info import probe

    frames, passed = Path(out, clip.stem), Path(out, f"{clip.stem}-passed")
    frames.mkdir()
    passed.mkdir()
    probe(clip)
    extract(clip, frames, clip.stem, ExtractConfig(), progress=lambda line: None)
    filter_frames(frames, passed, FilterConfig.model_validate(FILTER))


# ---------------------------------------------------------------------------------- the parts


@dataclass(frozen=True)
class Benchmark:
    """Measures part by part.

    Parameters
    ----------
    clips : Clips
        Where clips come from.
    scale : float
        How large everything is; 1 as the keys say.
    rounds : int
        How often both sides of a ratio are measured.
    """

    clips: Clips
    scale: float
    rounds: int

    def short(self) -> dict[str, float]:
        """Compare runs over short clips with the functions, by CPU."""
        counts = {suffix: max(LEAST, self._count(count)) for suffix, count in COUNTS.items()}
        clips = self.clips.short(max(counts.values()))
        return {
            f"cpu_per_video_vs_work{suffix}": self._cpu_vs_work(clips[:count])
            for suffix, count in counts.items()
        }

    def long(self) -> dict[str, float]:
        """Compare a run over long clips with the functions, by CPU."""
        clips = self.clips.long("long", self._count(LONG), LONG_SECONDS * self.scale)
        return {"long_cpu_vs_work": self._cpu_vs_work(clips)}

    def mixed(self) -> dict[str, float]:
        """Compare a run over many short clips and a long one with two processes, by wall time."""
        clips = self.clips.short(max(LEAST, self._count(MIXED)))
        clips += self.clips.long("longest", 1, LONGEST_SECONDS * self.scale)
        turns = []
        for number in range(self.rounds):
            tell(f"round {number + 1}: {len(clips)} clips, one of them long")
            turns.append((run(clips).wall, empty_start().wall, functions(clips, CORES).wall))
        ours, empty, theirs = medians(turns)
        tell(f"  wall s: run {ours:.1f}, empty start {empty:.1f}, two processes {theirs:.1f}")
        return {"mixed_wall_vs_two_workers": (ours - empty) / theirs}

    def plans(self) -> dict[str, float]:
        """Compare plans with the bare workflow's."""
        planned, many = self._count(PLANNED), self._count(MANY)
        tell(f"plans of {planned} videos")
        costs = measure(planned, STATES, self.rounds)
        bare = costs["bare"].cpu
        found = {f"plan_10000_vs_bare_{state}": costs[state].cpu / bare for state in STATES}
        tell(f"plans of {many} videos")
        large = measure(many, ["fresh"], self.rounds, beside=False)["fresh"]
        return {**found, "plan_100000_vs_bare_10000": large.cpu / bare}

    def files(self) -> dict[str, float]:
        """Count what runs leave for each video."""
        tell(f"files of {FILES} clips")
        with site(self.clips.short(FILES)) as made:
            made.run()
            first = made.left()
            made.configure(OTHER_FILTER)
            made.run()
            return {"files_per_video": max(first, made.left()) / FILES}

    def downloads(self) -> dict[str, float]:
        """Compare downloads with video2dataset's, and count bytes and statements."""
        peer, found = Peer.installed(), {}
        clips = self.clips.short(self._count(max(DOWNLOADS.values())))
        with loopback(clips[0].parent) as server:
            for suffix, count in DOWNLOADS.items():
                part = clips[: self._count(count)]
                turns = []
                for number in range(self.rounds):
                    tell(f"round {number + 1}: links to {len(part)} clips")
                    turns.append(download_turn(server, part, peer))
                cpu, wall, sent, their_cpu, their_wall = medians(turns)
                tell(f"  CPU s: run {cpu:.1f}, peer {their_cpu:.1f}")
                tell(f"  wall s: run {wall:.1f}, peer {their_wall:.1f}")
                found[f"download_cpu_vs_video2dataset{suffix}"] = cpu / their_cpu
                found[f"download_wall_vs_video2dataset{suffix}"] = wall / their_wall
                if not suffix:
                    size = sum(clip.stat().st_size for clip in part)
                    found["download_bytes_vs_files"] = sent / size
            tell("counting statements")
            found["statements_per_video"] = statements(server, clips) / len(clips)
        return found

    def slurm(self) -> dict[str, float]:
        """Compare runs on Slurm with the functions, and with their own jobs."""
        with slurm() as there:
            return self._on_slurm() if there else {}

    def _on_slurm(self) -> dict[str, float]:
        clips = self.clips.short(max(FEW_ON_SLURM, self._count(ON_SLURM)))
        turns = []
        for number in range(self.rounds):
            tell(f"round {number + 1}: {len(clips)} and {FEW_ON_SLURM} clips on Slurm")
            with site(clips) as many:
                all_of_it = many.run_on_slurm()
            with site(clips[:FEW_ON_SLURM]) as few:
                part = few.run_on_slurm()
            turns.append(
                (
                    all_of_it.took.cpu,
                    functions(clips).cpu,
                    all_of_it.jobs,
                    part.jobs,
                    part.took.wall / part.job_seconds,
                )
            )
            tell(f"  wall s: {all_of_it.took.wall:.1f} and {part.took.wall:.1f}")
        ours, theirs, jobs, few_jobs, wall = medians(turns)
        tell(f"  CPU s: run {ours:.1f}, functions {theirs:.1f}")
        return {
            "slurm_cpu_per_video_vs_work": ours / theirs,
            "slurm_jobs_per_1000_videos": jobs / len(clips) * 1000,
            "slurm_jobs_of_40": few_jobs,
            "slurm_wall_vs_jobs": wall,
        }

    def _count(self, count: int) -> int:
        return max(2, round(count * self.scale))

    def _cpu_vs_work(self, clips: list[Path]) -> float:
        turns = []
        for number in range(self.rounds):
            tell(f"round {number + 1}: {len(clips)} clips")
            turns.append((run(clips).cpu, functions(clips).cpu))
        ours, theirs = medians(turns)
        tell(f"  CPU s: run {ours:.1f}, functions {theirs:.1f}")
        return ours / theirs


def download_turn(server: Loopback, clips: list[Path], peer: Peer) -> tuple[float, ...]:
    """Return CPU, wall time and bytes of a run, then CPU and wall time of the peer."""
    links = server.links(clips)
    before, _ = server.sent()
    with site(clips, links) as made:
        ours = made.run(upto="download", done=FETCHED)
    sent = server.sent()[0] - before
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = command(peer.command(links, folder), folder, folder / "output")
        fetched = len([*folder.rglob("out/*/*.mp4")])
        if not theirs or fetched != len(clips):
            output = (folder / "output").read_text()[-3000:]
            raise SystemExit(f"{output}\n{fetched} of {len(clips)} clips came by video2dataset")
    return ours.cpu, ours.wall, sent, theirs.cpu, theirs.wall


def statements(server: Loopback, clips: list[Path]) -> int:
    """Count the SQL statements of a run, all of them."""
    with site(clips, server.links(clips)) as made:
        # the embedded server's other role, which may have statements logged
        url = os.environ["DATABASE_URL"].replace("//dataminer@", "//postgres@")
        with closing(psycopg2.connect(url)) as connection:
            database = Server(connection)
            name = connection.info.dbname
            connection.cursor().execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
            before = database.count(LOGGED)
            made.run(upto="download", done=FETCHED)
            return database.count(LOGGED) - before


def medians(turns: Sequence[tuple[float, ...]]) -> list[float]:
    """Return the median of each figure."""
    return [statistics.median(figures) for figures in zip(*turns, strict=True)]


def tell(line: str) -> None:
    """Say how far it is."""
    print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured")
    parser.add_argument("--peers", action="store_true", help="measure the part downloads as well")
    parser.add_argument("--scale", type=float, default=1.0, help="less than 1 for a trial")
    parser.add_argument("--clips", type=Path, help="keep the encoded clips in this folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, and print the figures."""
    options = arguments()
    if options.worker:
        worker(options.worker)
        return
    os.environ.pop("DATABASE_URL", None)
    found: dict[str, float] = {"scale": options.scale}
    with tempfile.TemporaryDirectory() as folder, server() as url:
        os.environ["DATABASE_URL"] = url
        clips = Clips(Path(folder), options.clips or Path(folder, "encoded"))
        benchmark = Benchmark(clips, options.scale, options.rounds)
        for part in PARTS:
            if part in options.parts and (part != "downloads" or options.peers):
                found |= getattr(benchmark, part)()
    if options.json:
        json.dump(rounded(found), sys.stdout, indent=2)
        print()
    else:
        for key, value in rounded(found).items():
            print(f"{key:40} {value:10.3g}")


if __name__ == "__main__":
    main()
