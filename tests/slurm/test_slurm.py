"""`snakemake --profile slurm` on a real Slurm: a whole project, an outage, and what Slurm ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.support import videos
from tests.support.http_server import serve
from tests.support.paths import BIN, ROOT
from tests.support.runs import Gate
from tests.support.site import Site

# beside the jobs that Slurm runs, a detector may have to be trained first
pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sacct")
# the workflow, as a clone has it
WORKFLOW = ("Snakefile", "rules", "scripts", "profiles", "slurm", "envs", "report", "dataminer")
# Slurm is asked soon, and the files are on this machine's own disk
QUICK = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10")
FORTY = 40
OUTAGE_SECONDS = 60
RUN_SECONDS = 560
_SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+) \(log: \S*?/(?:rule|group)_([^/]+)/")


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
                [BIN / "snakemake", "--profile", "slurm", *QUICK, *self.arguments],
                cwd=self.site.folder,
                env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def submitted(self) -> dict[str, str]:
        """The kind of each Slurm job so far, by its number."""
        return dict(_SUBMITTED.findall(self.said))

    def until(self, condition: Callable[[], Any], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
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
        run.process.wait(60)


def told(job: str, *columns: str) -> list[str]:
    """Ask the accounting for some columns of a job."""
    asked = ["sacct", "-X", "-n", "-P", "-j", job, "-o", ",".join(columns)]
    return (
        subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip().split("|")
    )


def rows(site: Site, statement: str) -> list[tuple[Any, ...]]:
    url = site.dataminer("db", "url").stdout.strip()
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def states(site: Site) -> tuple[set[str], set[str], str]:
    """The statuses of videos, of videos in the project, and of the project."""
    ((stage,),) = rows(site, "SELECT project_stage FROM projects")
    return (
        {status for (status,) in rows(site, "SELECT status FROM videos")},
        {status for (status,) in rows(site, "SELECT status FROM project_videos")},
        stage,
    )


def test_forty_videos_and_an_outage_of_the_database(cluster, start, shapes_weights, capsys):
    clips = cluster.folder / "clips"
    clips.mkdir()
    real = sorted(videos.REAL_FOOTAGE.glob("*.mp4"))[:2] if videos.REAL_FOOTAGE.is_dir() else []
    for path in real:
        (clips / path.name).symlink_to(path)
    for number in range(FORTY - len(real)):
        videos.make_video(clips / f"clip{number}.mp4", frames=30 + number, size=(160, 120))
    cluster.configure(
        project="birds",
        input={"files": ["clips"]},
        filter={"min_sharpness": 0},
        detect={"model": str(shapes_weights), "image_size": 320},
    )
    assert cluster.dataminer("populate").returncode == 0
    gpu = ("--set-resources", "detect:gpu=1", "detect:slurm_partition=gpu", "dedup:mem_mb=1234")
    run = start(*gpu)

    # the database goes away while the frames are taken out
    begun = "SELECT count(*) FROM videos WHERE status IN ('EXTRACTING', 'EXTRACTED')"
    run.until(lambda: "frames-00000" in run.said)
    run.until(lambda: rows(cluster, begun)[0][0] >= 2)
    assert cluster.dataminer("db", "stop").returncode == 0
    time.sleep(OUTAGE_SECONDS)
    assert run.process.poll() is None, run.said
    assert cluster.dataminer("db", "start").returncode == 0
    assert run.process.wait(RUN_SECONDS) == 0, run.said

    assert "Error in" not in run.said
    assert "Trying to restart" not in run.said
    kinds = run.submitted
    assert {told(job, "State")[0] for job in kinds} == {"COMPLETED"}
    batches = [kind for kind in kinds.values() if kind.startswith(("download-", "frames-"))]
    with capsys.disabled():
        print(f"\n{FORTY} videos: {len(batches)} Slurm jobs to download, extract and filter them")
    assert 2 <= len(batches) <= 12
    assert states(cluster) == ({"EXTRACTED"}, {"FILTERED"}, "COMPLETE")

    # what was asked for, as Slurm's accounting has it
    job = {kind.split("-")[0]: number for number, kind in kinds.items()}
    asked = {
        kind: dict(part.split("=") for part in told(number, "ReqTRES")[0].split(","))
        for kind, number in job.items()
    }
    assert asked["detect"]["gres/gpu"] == "1"
    assert "gres/gpu" not in asked["frames"]
    assert (asked["frames"]["cpu"], asked["frames"]["mem"]) == ("4", "4000M")
    assert (asked["download"]["cpu"], asked["download"]["mem"]) == ("4", "2000M")
    assert asked["dedup"]["mem"] == "1234M"
    assert told(job["detect"], "Partition") == ["gpu"]
    assert told(job["frames"], "Partition") == ["cpu"]
    assert told(job["detect"], "Timelimit") == ["04:00:00"]

    again = cluster.run("snakemake", "--profile", "slurm")
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout + again.stderr


def test_models_look_at_all_videos_in_one_job(cluster, start, tiny_siglip, shims, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", shims)
    clips = cluster.folder / "clips"
    clips.mkdir()
    for number in range(6):
        videos.make_video(clips / f"clip{number}.mp4", frames=30 + number, size=(160, 120))
    asked = {"positive": ["a picture of red"], "junk": ["a picture of blue"]}
    cluster.configure(
        project="birds",
        input={"files": ["clips"]},
        filter={
            "min_sharpness": 0,
            "semantic": {"model": str(tiny_siglip), "prompts": asked, "max_junk": 0.999},
        },
    )
    assert cluster.dataminer("populate").returncode == 0
    run = start("only_filter", "--set-resources", "embed:gpu=1", "embed:slurm_partition=gpu")
    assert run.process.wait(RUN_SECONDS) == 0, run.said
    assert {status for (status,) in rows(cluster, "SELECT status FROM project_videos")} <= {
        "FILTERED",
        "FILTERED_EMPTY",
    }
    (log,) = (cluster.folder / "logs" / "embed").glob("*.log")
    assert re.findall(r"model loads: (\d+)", log.read_text()) == ["1"]
    kinds = Counter(kind.split("-")[0] for kind in run.submitted.values())
    assert kinds == {"download": 1, "frames": 1, "prompts": 1, "embed": 1, "filter": 1}
    (job,) = (number for number, kind in run.submitted.items() if kind == "embed")
    assert "gres/gpu=1" in told(job, "ReqTRES")[0]


def test_what_slurm_ends_is_done_again(cluster, start, shapes_weights):
    clip = cluster.folder / "clip.mp4"
    videos.make_video(clip, frames=60, size=(160, 120))
    gate = Gate(clip)
    with serve() as http:
        cluster.configure(
            project="birds",
            download={"socket_timeout": 600},
            input={
                "urls": [
                    http.add("/slow.mp4", [clip, gate]),
                    http.add("/cancelled.mp4", clip),
                    http.add("/other.mp4", clip),
                ]
            },
            filter={"min_sharpness": 0},
            detect={"model": str(shapes_weights), "image_size": 320},
        )
        assert cluster.dataminer("populate").returncode == 0
        rows(cluster, _KEEP_ENDS)
        ((held,),) = rows(cluster, "SELECT video_id FROM videos WHERE url LIKE '%/cancelled.mp4'")
        little = f"100 if attempt == 1 and wildcards.video_id != '{held}' else 1500"
        run = start(
            *("--resources", "job_minutes=1", "job_slots=1", "downloads=4"),
            *("--set-resources", f"extract:mem_mb={little}", f"filter:mem_mb={little}"),
            "download:runtime=1",
        )

        def of(kind: str, state: str) -> list[str]:
            return [
                job
                for job, name in run.submitted.items()
                if name.startswith(kind) and told(job, "State")[0].startswith(state)
            ]

        # one frames job runs out of memory and is done again with enough of it; another one, which
        # finds its video locked and waits for it, is cancelled; the slow download runs out of time
        with locked_once_downloaded(cluster, run, held):
            waits = cluster.folder / "logs" / "extract" / f"{held}.log"
            run.until(lambda: waits.exists() and "waiting" in waits.read_text())
            run.until(lambda: of("frames", "COMPLETED"))
            (cancelled,) = of("frames", "RUNNING")
            subprocess.run(["scancel", cancelled], check=True)
            run.until(lambda: of("frames", "CANCELLED"))
        run.until(lambda: of("download", "TIMEOUT"))
        gate.open()
        run.process.wait(RUN_SECONDS)
        if run.process.returncode:  # the attempts were spent: the same command goes on
            http_again = start("--set-resources", "extract:mem_mb=1500")
            assert http_again.process.wait(RUN_SECONDS) == 0, http_again.said
    assert states(cluster) == ({"EXTRACTED"}, {"FILTERED"}, "COMPLETE")
    ends = {error_class for (error_class,) in rows(cluster, "SELECT error_class FROM ends")}
    assert ends >= {"out_of_memory", "time_limit", "cancelled"}
    assert not list((cluster.folder / "data").rglob("*.partial"))
    facts = "SELECT count(*) FROM videos WHERE error IS NOT NULL OR attempts > 0"
    assert rows(cluster, facts) == [(0,)]


# what the table ever said of how jobs ended; the next attempt takes it away again
_KEEP_ENDS = """
CREATE TABLE ends (error_class text);
CREATE FUNCTION keep_end() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO ends VALUES (NEW.error_class); RETURN NULL; END $$;
CREATE TRIGGER keep_end AFTER UPDATE OF error_class ON videos FOR EACH ROW
    WHEN (NEW.error_class IS NOT NULL) EXECUTE FUNCTION keep_end();
"""


@contextmanager
def locked_once_downloaded(site: Site, run: Run, video_id: str) -> Iterator[None]:
    """Hold the row of a video from when it is downloaded on: nobody can claim it."""
    ready = f"SELECT 1 FROM videos WHERE video_id = '{video_id}' AND status = 'DOWNLOADED'"
    run.until(lambda: "SLURM jobid" in run.said)  # by then the server listens to the nodes
    url = site.dataminer("db", "url").stdout.strip()
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:

        def taken() -> bool:
            connection.rollback()
            cursor.execute(f"{ready} FOR UPDATE")
            return cursor.fetchone() is not None

        run.until(taken)
        yield
