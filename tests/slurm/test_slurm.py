"""`snakemake --profile slurm` on a real Slurm: a whole project, an outage, and what Slurm ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from dataminer.db.server import control
from tests.support import videos
from tests.support.http_server import serve
from tests.support.paths import BIN, ROOT
from tests.support.postgres import execute
from tests.support.runs import Barrier
from tests.support.site import Site
from tests.support.waiting import wait_until

# beside the jobs that Slurm runs, a detector may have to be trained first
pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sacct")
# the workflow, as a clone has it
WORKFLOW = ("Snakefile", "rules", "scripts", "profiles", "slurm", "envs", "report", "dataminer")
COUNT = 8
BEATS = 10
GPU = ("gpu=1", "slurm_partition=gpu")
RUN_SECONDS = 560
_SUBMITTED = re.compile(
    r"submitted with SLURM jobid (\d+) \(log: \S*?/(?:rule|group)_([^/]+(?:/[^/]+)?)/\d+\.log"
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Slurm's daemons, for the commands of this module."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"starts Slurm's daemons as root; not here: {', '.join(missing) or 'root'}")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run(
        [HERE / "start", folder], capture_output=True, text=True, timeout=180, check=False
    )
    if started.returncode == 3:
        pytest.skip(started.stderr)
    assert started.returncode == 0, started.stderr
    yield
    subprocess.run([HERE / "stop", folder], timeout=120, check=True)


@pytest.fixture
def cluster(slurm: None, tmp_path: Path, shapes_weights: Path) -> Iterator[Site]:
    """A clone of the workflow, with an embedded database of its own."""
    for name in WORKFLOW:
        (tmp_path / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        patch.setenv("DATAMINER_PGDATA", str(tmp_path / "postgres"))
        site = Site(tmp_path, "")
        yield site
        site.dataminer("db", "stop")


@dataclass
class Run:
    """A `snakemake --profile slurm` at work."""

    site: Site
    arguments: tuple[str, ...]
    output: Path = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.output = self.site.folder / "run.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    BIN / "snakemake",
                    "--profile",
                    "slurm",
                    "--latency-wait",
                    "10",
                    "--quiet=host",  # the other lines of Snakemake are shown, those of jobs too
                    *self.arguments,
                ],
                cwd=self.site.folder,
                env=self.site.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        return self.output.read_text()

    @property
    def submitted(self) -> dict[str, str]:
        """The kind of each Slurm job so far and, if it has any, its wildcards; by its number."""
        return dict(_SUBMITTED.findall(self.printed))

    def until(self, condition: Callable[[], Any], seconds: float = 100) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.3)


@pytest.fixture
def start(cluster: Site) -> Iterator[Callable[..., Run]]:
    """Start runs; what is left of them is ended."""
    runs: list[Run] = []

    def begin(*arguments: str) -> Run:
        runs.append(Run(cluster, arguments))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.terminate()
        if run.submitted:  # else it waits for what is at work
            subprocess.run(["scancel", *run.submitted], check=True)
        run.process.wait(60)


def accounting(job: str, *columns: str) -> list[str]:
    """Ask the accounting for some columns of a job."""
    command = ["sacct", "-X", "-n", "-P", "-j", job, "-o", ",".join(columns)]
    return (
        subprocess.run(command, capture_output=True, text=True, check=True)
        .stdout.strip()
        .split("|")
    )


def rows(statement: str) -> list[tuple[Any, ...]]:
    return execute(control.reachable_url(), statement)


def states() -> tuple[set[str], set[str], str]:
    """The statuses of videos, of videos in the project, and of the project."""
    ((stage,),) = rows("SELECT project_stage FROM projects")
    return (
        {status for (status,) in rows("SELECT status FROM videos")},
        {status for (status,) in rows("SELECT status FROM project_videos")},
        stage,
    )


def test_a_whole_project_and_an_outage_of_the_database(
    cluster: Site,
    start: Callable[..., Run],
    shapes_weights: Path,
    tiny_siglip: Path,
    shims: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", shims)
    clips = cluster.folder / "clips"
    clips.mkdir()
    real = sorted(videos.REAL_FOOTAGE.glob("*.mp4"))[:2] if videos.REAL_FOOTAGE.is_dir() else []
    for path in real:
        (clips / path.name).symlink_to(path)
    for number in range(COUNT - len(real)):
        videos.make_video(clips / f"clip{number}.mp4", frames=30 + number, size=(160, 120))
    prompts = {"positive": ["a picture of red"], "junk": ["a picture of blue"]}
    cluster.configure(
        project="birds",
        input={"files": ["clips"]},
        filter={
            "min_sharpness": 0,
            "semantic": {"model": str(tiny_siglip), "prompts": prompts, "max_junk": 0.999},
        },
        detect={"model": str(shapes_weights), "image_size": 320},
        monitor={"heartbeat_seconds": 1},
    )
    assert cluster.dataminer("populate").returncode == 0
    rows(_CLAIM_ROW)
    on_gpu = [f"{rule}:{what}" for rule in ("embed", "detect") for what in GPU]
    run = start("--set-resources", *on_gpu, "dedup:mem_mb=1234")

    # the database goes away while a job is about to finish a video, and another to claim one
    with held(run) as waited_for:
        run.until(waited_for)
        assert cluster.dataminer("db", "stop").returncode == 0
    run.until(lambda: failed_beats(cluster) >= BEATS)
    assert cluster.dataminer("db", "start").returncode == 0
    assert run.process.wait(RUN_SECONDS) == 0, run.printed

    assert "Error in" not in run.printed
    assert "Trying to restart" not in run.printed
    jobs = {kind.partition("/")[0]: number for number, kind in run.submitted.items()}
    assert {accounting(number, "State")[0] for number in run.submitted} == {"COMPLETED"}
    # however many videos
    kinds = ("download", "batch_extract", "prompts", "embed", "filter", "dedup", "detect")
    assert sorted(jobs) == sorted(kinds)
    assert len(run.submitted) == len(kinds)
    (log,) = (cluster.folder / "logs" / "embed").glob("*/*.log")
    assert re.findall(r"model loads: (\d+)", log.read_text()) == ["1"]
    assert states() == ({"EXTRACTED"}, {"FILTERED"}, "COMPLETE")
    assert rows("SELECT count(*) FROM videos") == [(COUNT,)]

    # what was asked for, as Slurm's accounting has it
    resources = {
        kind: dict(part.split("=") for part in accounting(number, "ReqTRES")[0].split(","))
        for kind, number in jobs.items()
    }
    assert {kind for kind in kinds if resources[kind].get("gres/gpu") == "1"} == {"embed", "detect"}
    assert {kind for kind in kinds if "gres/gpu" in resources[kind]} == {"embed", "detect"}
    assert (resources["batch_extract"]["cpu"], resources["batch_extract"]["mem"]) == ("4", "4800M")
    assert (resources["download"]["cpu"], resources["download"]["mem"]) == ("1", "500M")
    assert resources["dedup"]["mem"] == "1234M"
    assert accounting(jobs["detect"], "Partition", "Timelimit") == ["gpu", "04:00:00"]
    assert accounting(jobs["embed"], "Partition") == ["gpu"]
    assert accounting(jobs["batch_extract"], "Partition") == ["cpu"]

    again = cluster.run("snakemake", "--profile", "slurm")
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout + again.stderr


# While its locks are held, the first video that is claimed cannot be finished, and no other claimed
_CLAIM_ROW = """
CREATE SEQUENCE claims;
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.status = 'EXTRACTED' THEN
        PERFORM pg_advisory_xact_lock_shared(1);
    ELSIF nextval('claims') > 1 THEN
        PERFORM pg_advisory_xact_lock_shared(2);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold BEFORE UPDATE OF status ON videos FOR EACH ROW
    WHEN (NEW.status IN ('EXTRACTING', 'EXTRACTED')) EXECUTE FUNCTION hold();
"""
_WAITED_FOR = (
    "SELECT count(DISTINCT objid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
)


@contextmanager
def held(run: Run) -> Iterator[Callable[[], bool]]:
    """Hold the locks of _HOLD; yield what tells whether both are waited for."""
    run.until(lambda: "SLURM jobid" in run.printed)  # by then the server listens to the nodes
    with (
        closing(psycopg2.connect(control.reachable_url())) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT pg_advisory_lock(1), pg_advisory_lock(2)")

        def waited_for() -> bool:
            cursor.execute(_WAITED_FOR)
            return cursor.fetchone() == (2,)

        yield waited_for


def failed_beats(site: Site) -> int:
    """How often the job that holds a video found no database to say so."""
    logs = (site.folder / "logs" / "extract").glob("*/*.log")
    return max(path.read_text().count("heartbeat failed") for path in logs)


# how Slurm ends the jobs of six videos: what their rows say of it, and the class of that
ENDS = {
    "late": ("TIMEOUT", "time_limit"),
    "dropped": ("CANCELLED", "cancelled"),
    "hungry": ("OUT_OF_MEMORY", "out_of_memory"),
    "requeued": ("PREEMPTED", "node_fail"),
    "evicted": ("PREEMPTED", "node_fail"),
    "forgotten": ("FAILED", "killed"),
}


def test_what_slurm_ends_is_done_again(
    cluster: Site, start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, longer = cluster.folder / "clip.mp4", cluster.folder / "longer.mp4"
    videos.make_video(clip, frames=60, size=(160, 120))
    videos.make_video(longer, frames=600, size=(160, 120))
    barrier = Barrier(clip)
    monkeypatch.setenv("PYTHONPATH", hungry_on_demand(cluster.folder))
    with serve() as http:
        urls = [http.add(f"/{name}.mp4", barrier) for name in ENDS]
        cluster.configure(
            project="birds",
            download={"socket_timeout": 600},
            extract={"every_seconds": 0.04},
            input={"urls": [*urls, http.add("/other.mp4", longer)]},
            filter={"min_sharpness": 0},
        )
        assert cluster.dataminer("populate").returncode == 0
        rows(_KEEP_ENDS)
        found = rows("SELECT video_id, url FROM videos")
        named = {Path(url).stem: video_id for video_id, url in found}
        partitions = {named["requeued"]: "requeued", named["evicted"]: "cancelled"}
        run = start(
            "only_filter",
            *("--resources", "job_minutes=1", "job_slots=1", "downloads=8"),
            *("--set-resources", f"download:slurm_partition={chosen_by(partitions)}"),
        )

        def holder(name: str) -> str | None:
            """The Slurm job that downloads a video."""
            statement = "SELECT locked_by FROM videos WHERE status = 'DOWNLOADING' AND video_id = "
            found = rows(f"{statement}'{named[name]}'")
            return found[0][0].partition(":slurm-")[2] if found else None

        run.until(lambda: all(http.requests[f"/{name}.mp4"] >= 1 for name in ENDS))
        first = {name: str(holder(name)) for name in ENDS}

        owner = stopped_at_work(run, named["other"])
        preempt()  # while nothing else frees cores
        preempted = [first[name] for name in ("requeued", "evicted")]
        run.until(lambda: all(accounting(number, "State") == ["PREEMPTED"] for number in preempted))

        # a job of the other video is cancelled in the midst of its work: it says so itself, at once
        in_the_midst = owner.rpartition("-")[2]
        preempted_at = time.time()
        subprocess.run(["scancel", in_the_midst], check=True)
        columns = "extract(epoch FROM at), status, attempts, error"
        freed = f"SELECT {columns} FROM freed WHERE owner = '{owner}'"
        run.until(lambda: rows(freed), seconds=60)
        ((at, *found, error),) = rows(freed)
        assert float(at) - preempted_at <= 5
        assert found == ["DOWNLOADED", 0]
        assert error.startswith(f"stopped with Slurm job {in_the_midst}. Next: ")

        subprocess.run(["scontrol", "update", f"JobId={first['late']}", "EndTime=now"], check=True)
        subprocess.run(["scancel", first["dropped"]], check=True)
        (cluster.folder / f"hungry-{first['hungry']}").touch()
        printed = {
            name: f"Slurm job {first[name]} ended as {end}" for name, (end, _) in ENDS.items()
        }

        def has_said(name: str) -> bool:
            kinds = "SELECT error, error_class FROM ends WHERE video_id = "
            return any(
                printed[name] in error and kind == ENDS[name][1]
                for error, kind in rows(f"{kinds}'{named[name]}'")
            )

        run.until(lambda: all(has_said(name) for name in ENDS if name != "forgotten"))
        # each is tried again, by another job or, where Slurm has requeued it, by the same
        run.until(lambda: all(holder(name) for name in ENDS))
        again = {name: str(holder(name)) for name in ENDS}
        assert {name for name in ENDS if again[name] == first[name]} == {"requeued", "forgotten"}

        # nobody hears of the last one: its run is gone by then
        run.process.kill()
        run.process.wait()
        for process in processes_of(first["forgotten"]):
            process.kill()
        wait_until(lambda: accounting(first["forgotten"], "State") == ["FAILED"], 60)
        assert holder("forgotten") == first["forgotten"]
        barrier.open()
        left = {number for name, number in again.items() if name != "forgotten"}
        wait_until(
            lambda: all(accounting(number, "State") == ["COMPLETED"] for number in left), 120
        )

        assert cluster.run("snakemake", "--unlock").returncode == 0
        run = start("only_download")
        assert run.process.wait(RUN_SECONDS) == 0, run.printed
        assert f"given back, as {printed['forgotten']}" in run.printed
        assert has_said("forgotten")
    assert states()[0] <= {"DOWNLOADED", "EXTRACTED"}, run.printed
    assert rows("SELECT DISTINCT status FROM ends WHERE status = 'FAILED'") == []
    assert not list((cluster.folder / "data").rglob("*.partial"))
    facts = "SELECT url FROM videos WHERE error IS NOT NULL OR attempts > 0"
    assert {Path(url).stem for (url,) in rows(facts)} <= {"other"}


# what the table ever said of how jobs ended; the next attempt takes it away again
_KEEP_ENDS = """
CREATE TABLE ends (video_id text, status text, error text, error_class text);
CREATE FUNCTION keep_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO ends VALUES (NEW.video_id, NEW.status, NEW.error, NEW.error_class);
    RETURN NULL;
END $$;
CREATE TRIGGER keep_end AFTER UPDATE OF error_class ON videos FOR EACH ROW
    WHEN (NEW.error_class IS NOT NULL) EXECUTE FUNCTION keep_end();
CREATE TABLE freed (owner text, at timestamptz, status text, attempts int, error text);
CREATE FUNCTION keep_freed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO freed
        VALUES (OLD.locked_by, clock_timestamp(), NEW.status, NEW.attempts, NEW.error);
    RETURN NULL;
END $$;
CREATE TRIGGER keep_freed AFTER UPDATE OF locked_by ON videos FOR EACH ROW
    WHEN (OLD.locked_by <> '' AND NEW.locked_by IS NULL) EXECUTE FUNCTION keep_freed();
"""

_HUNGRY = """
import os, sys, threading, time

def eat():
    while not os.path.exists("hungry-" + os.environ["SLURM_JOB_ID"]):
        time.sleep(0.2)
    eaten = bytearray(os.urandom(1024)) * 2**20
    time.sleep(600)

if "SLURM_JOB_ID" in os.environ and sys.orig_argv[-1].endswith("batch.py"):
    threading.Thread(target=eat, daemon=True).start()
"""


def hungry_on_demand(folder: Path) -> str:
    """Have the jobs of batches take more memory than they have, once a file says so.

    It is taken beside the worker, which would be stopped alone.
    """
    (folder / "hungry").mkdir()
    (folder / "hungry" / "sitecustomize.py").write_text(_HUNGRY)
    return str(folder / "hungry")


def chosen_by(partitions: dict[str, str]) -> str:
    """Return what has Snakemake choose the partition by the batch, which is a video here."""
    cases = [f"'{name}' if wildcards.batch == '{batch}'" for batch, name in partitions.items()]
    return " else ".join([*cases, "'cpu'"])


def preempt() -> None:
    """Have Slurm end two jobs of partitions `requeued` and `cancelled` for a more urgent one."""
    command = ["sinfo", "--noheader", "--partition=urgent", "--format=%C"]
    cores = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    idle = int(cores.split("/")[1])
    urgent = ["sbatch", "-p", "urgent", f"-c{idle + 2}", "--mem=100", "-o", "/dev/null"]
    subprocess.run([*urgent, "--wrap", "sleep 3"], check=True)


def stopped_at_work(run: Run, video_id: str) -> str:
    """Stop the worker that takes the frames out of a video; return how its claim names it.

    Slurm has stopped processes go on before it ends them.
    """
    holder = f"SELECT locked_by FROM videos WHERE video_id = '{video_id}' AND status = 'EXTRACTING'"
    run.until(lambda: rows(holder))
    ((owner,),) = rows(holder)
    os.kill(int(owner.split(":")[1]), signal.SIGSTOP)
    assert rows(holder) == [(owner,)]
    return str(owner)


def processes_of(job: str) -> list[psutil.Process]:
    """Return the processes of a Slurm job, wherever they have gone."""

    def is_of(process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return process.environ().get("SLURM_JOB_ID") == job
        return False

    return [process for process in psutil.process_iter() if is_of(process)]
