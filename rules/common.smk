# Settings and targets that the rules share: thin wrappers over the dataminer package.
import os
import sys
from functools import cache
from pathlib import Path

import psycopg2
from dataminer import commands
from dataminer.sync.batches.planned import BatchList
from dataminer.config import load_run
from dataminer.db.server.control import ensure_listening
from dataminer.db.server.supervisor import ServerSupervisor
from dataminer.db.refusals import last_words
from dataminer.process import connect_only, let_jobs_import
from dataminer.errors import DataminerError
from dataminer.monitor.terminal import summary
from dataminer.monitor.progress import Tracker
from dataminer.monitor.terminal.run_display import RunDisplay
from dataminer.permissions import explain, try_to_write
from dataminer.workflow.run import RUNS as runs
from dataminer.workflow.run import Cluster, Run, forced, upto
from dataminer.workflow.snakemake_compat import (
    adapt,
    end_with_last_job,
    forget,
    note_command_line,
    read_last,
)
from dataminer.vision.weights import file_of, to_fetch, weights_path
from dataminer.store.layout import INFO_FILE, SHEET_FILE, Store
from dataminer.sync.config_files import remember
from dataminer.sync.pairing.meeting import PairingStep
from dataminer.sync.claims.dead_job_listener import DeadJobListener
from dataminer.sync.repair.run_hooks import bring_up_to_date
from snakemake.cli import get_profile_dir
from snakemake.logging import logger


wildcard_constraints:
    video_id=r"[A-Za-z0-9_-]+",
    project=r"[A-Za-z0-9_-]+",
    weights=r"[A-Za-z0-9_.-]+",
    part=r"\d+",
    parts=r"\d+",
    run=r"\d{8}-\d{6}-[0-9a-f]{6}",
    batch=r"[A-Za-z0-9_-]+",


adapt()
note_command_line()
let_jobs_import(workflow.basedir)
if not workflow.is_main_process:
    connect_only()


def or_exit(function, *args):
    """Call a function of the package; end with its one sentence where it cannot go on."""
    try:
        return function(*args)
    except DataminerError as error:
        sys.exit(f"dataminer: {error}")
    except psycopg2.Error as error:
        sys.exit(f"dataminer: {last_words(error)}")
    except OSError as error:
        if (known := explain(error)) is None:
            raise
        sys.exit(f"dataminer: {known}")


if workflow.is_main_process:  # Snakemake itself ends in a traceback without it
    or_exit(try_to_write, Path(".snakemake"))


def profiles():
    """The files of the profiles that were asked for."""
    named = os.environ.get("SNAKEMAKE_PROFILE", "").split(",")
    for option in ("--profile", "--workflow-profile"):
        named += [b for a, b in zip(sys.argv, sys.argv[1:]) if a == option]
        named += [a.partition("=")[2] for a in sys.argv if a.startswith(f"{option}=")]
    found = [get_profile_dir(name) for name in named if name not in ("", "none")]
    return [str(entry[1]) for entry in found if entry]


if set("{}") & set(str(workflow.basedir)):
    sys.exit(
        f"dataminer: the path {workflow.basedir} has a brace, which Snakemake takes for a wildcard."
        " Next: move dataminer to a folder without braces in its path"
    )

NOT_READ = None
# as given: those of the last run are added to Snakemake's list
NAMED = list(workflow.config_settings.configfiles)
if workflow.is_main_process and not NAMED:
    try:
        read_last(workflow, config, logger)
    except (DataminerError, psycopg2.Error) as error:
        NOT_READ = error  # told by a run: --unlock and --lint go on
# those of the command line lie over the Snakefile's own, and come before it in Snakemake's list
SETTINGS = or_exit(
    load_run,
    config,
    sorted(workflow.configfiles, key=workflow.config_settings.configfiles.__contains__),
    workflow.config_settings.config_args,
    profiles(),
)
STORE = Store(SETTINGS.store_path)
MODELS = Path("models")
PROJECTS = SETTINGS.project_names
# where the jobs of a run say that they are done
RUNS = runs / "{run}"
DEAD_JOBS = DeadJobListener(
    lambda rule, batch: run().members.get(rule, {}).get(batch, ()),
    SETTINGS.monitor,
)
SUPERVISOR = ServerSupervisor()
QUIET = {str(part) for part in workflow.output_settings.quiet or ()}
DISPLAY = RunDisplay(
    lambda: Tracker.of_list(run().listed.path, STORE),
    verbose=workflow.output_settings.verbose,
    quiet=QUIET,
    colours=not workflow.output_settings.nocolor,
)


def growing(amount):
    """Return a resource that grows with each attempt: a job killed for lack of it gets more."""

    def resource(wildcards, attempt):
        return amount * attempt

    return resource


def all_is_read():
    """Raise what kept the files of the last run from being read."""
    if NOT_READ:
        raise NOT_READ


# ---- targets: asked of the database by the process that plans, when it plans ------------------


def cluster():
    """How large a cluster's jobs are, as its profile says; None where jobs run on this machine."""
    limit = workflow.global_resources
    if "job_minutes" not in limit:  # not `local_exec`, which a dry run is, too
        return None
    slots = limit["job_slots"].value if "job_slots" in limit else 1
    most = min(workflow.group_settings.group_components.values(), default=200)
    return Cluster(limit["job_minutes"].value, slots, most)


@cache
def run():
    """What this run is to make; Snakemake knows its own options only once this file is read."""
    or_exit(all_is_read)
    asked = workflow.dag_settings
    found = Run(
        SETTINGS,
        upto=upto(asked.targets),
        forced=forced(asked.forcerun, everything=asked.forceall),
        cores=workflow.cores or 1,
        cluster=cluster(),
        files=NAMED or None,
    )
    if or_exit(lambda: found.meeting) is PairingStep.FOLLOW and workflow.dryrun:
        logger.info(
            "dataminer: the store has moved: the paths in the database will follow it"
        )
    for line in or_exit(lambda: [*found.reasons()]):
        logger.info(f"dataminer: {line}")
    return found


def marks(rule):
    """What the jobs of a batch rule leave; a job on a node asks for none of it."""
    return run().listed.marks(rule) if workflow.is_main_process else []


def listed(wildcards=None):
    """The list of this run's batches: what it is made for is due."""
    return str(run().listed.path)


def unless_due(stage, project, path):
    """A project's result that is to be made before, or is up to date."""
    if not workflow.is_main_process or run().plan.is_due(project, stage):
        return path
    return ancient(path)


def made_anew(project, stage):
    """Whether a stage of a project is due whose result is there, so that Snakemake must be told."""
    result = {
        "dedup": STORE.dedup(project) / "frames.parquet",
        "detect": STORE.detect(project) / "annotations.json",
        "report": STORE.report(project) / "index.html",
    }
    return run().plan.is_due(project, stage) and result[stage].exists()


def if_due(stage):
    """What has a stage of a project run again, if it is due: a file that is new in each run."""

    def mark(wildcards):
        if not workflow.is_main_process:
            return []
        asked = stage in run().forced or made_anew(wildcards.project, stage)
        return listed() if asked else []

    return mark


def adopted(wildcards):
    """What says that rows agree with files, if they did not."""
    if not workflow.is_main_process or not run().to_adopt:
        return []
    return str(run().adopted)


def list_of_run(wildcards):
    """The list of batches that a job reads."""
    return str(runs / wildcards.run / "batches.json")


def of_batch(tell, rule):
    """Return what tells something of a batch: as it was planned or, on a node, as it is listed."""

    def told(wildcards):
        if workflow.is_main_process:
            batches = run().listed
        else:
            batches = BatchList.read(Path(list_of_run(wildcards)))
        return tell(batches, rule.format(**wildcards), wildcards.batch)

    return told


def workers(rule):
    """Return the workers of a batch: its threads here, and the cores that it asks Slurm for."""
    return of_batch(BatchList.workers, rule)


# so many downloads at once, in all jobs together, unless the profile allows others
if "downloads" not in workflow.global_resources:
    workflow.register_resource("downloads", SETTINGS.download.concurrent_downloads)


def downloads(wildcards):
    """How many videos a batch downloads at once."""
    most = workflow.global_resources["downloads"].value
    return max(1, min(of_batch(BatchList.side_by_side, "download")(wildcards), most))


def first_videos(rule):
    """Return what names the first videos of a batch, for its message."""
    return of_batch(BatchList.first_videos, rule)


def of_each_worker(amount, rule):
    """Return memory that grows with the videos that a batch works on at once, and attempts."""
    count = workers(rule)

    def resource(wildcards, attempt):
        return amount * count(wildcards) * attempt

    return resource


def minutes(rule):
    """Return the run time that a batch is given."""

    def resource(wildcards, attempt):
        if not workflow.is_main_process:
            return 1
        return run().minutes(rule.format(**wildcards), wildcards.batch, attempt)

    return resource


def after(rule):
    """Return what must be done for a batch before, or the list of batches if nothing must.

    On a node as well: of two jobs of a group it must know the order.
    """

    mark = of_batch(BatchList.mark, rule)
    return lambda wildcards: mark(wildcards) or list_of_run(wildcards)


def unique_frames(wildcards):
    """The unique frames of a project."""
    frames = STORE.dedup(wildcards.project) / "frames.parquet"
    return unless_due("dedup", wildcards.project, str(frames))


def annotations(wildcards):
    """The annotations of a project."""
    found = STORE.detect(wildcards.project) / "annotations.json"
    return unless_due("detect", wildcards.project, str(found))


def all_infos(wildcards):
    """What the jobs leave that download videos."""
    return marks("download")


def all_frames(wildcards):
    """What the jobs leave that take out frames."""
    return marks("extract")


def all_filtered(wildcards):
    """What the jobs leave that filter frames, for all projects."""
    return [mark for project in PROJECTS for mark in marks(f"filter/{project}")]


def all_of(stage, path):
    """The results of a stage for all projects."""

    def results(wildcards):
        if not workflow.is_main_process:
            return []
        return [unless_due(stage, project, str(path(project))) for project in PROJECTS]

    return results


def begins_with(*stages):
    """Return the list of batches if a stage of a project is due, or rows lag behind files.

    Asked for by targets, as Snakemake makes missing inputs only if something else asks for them.
    Else return a file that is there: a target without any input always runs.
    """

    def begin(wildcards):
        if not workflow.is_main_process:
            return []
        asked = [(project, stage) for project in PROJECTS for stage in stages]
        due = run().to_adopt or any(made_anew(*one) for one in asked)
        return listed() if due else ancient(str(workflow.main_snakefile))

    return begin


all_unique = all_of("dedup", lambda project: STORE.dedup(project) / "frames.parquet")
all_annotations = all_of(
    "detect", lambda project: STORE.detect(project) / "annotations.json"
)
all_reports = all_of("report", lambda project: STORE.report(project) / "index.html")


def weights_file(model):
    """The file of a model's weights: as given, or models/NAME, which rule weights fetches."""
    resolve = to_fetch if workflow.is_main_process else weights_path
    file = file_of(or_exit(resolve, model, MODELS), model)
    return ancient(str(file)) if file.exists() else str(file)


def detect_weights(wildcards):
    """The file of the detector's weights."""
    return weights_file(SETTINGS.detect.model)


def parts_of_detect(wildcards):
    """What the jobs leave that share the frames of a project; none where one job has them all."""
    parts = SETTINGS.detect.jobs
    if parts == 1:
        return []
    return expand(
        rules.detect_shards.output.done,
        part=range(parts),
        parts=parts,
        allow_missing=True,
    )


def outcome(progress):
    """What the end of the run tells of it."""
    asked = tuple(sorted(workflow.dag_settings.targets))
    whole = run.cache_info().currsize and not commands.makes_part()
    done = or_exit(run().is_done) if whole else None
    return summary.Outcome(progress, done, asked, workflow.overwrite_workdir)


def tell_database(show=False):
    """Bring the database up to date before the first job and, with `show`, after the last.

    Claims of dead jobs are given back, counters and stages follow. In between, the database is told
    of jobs that were killed, and people are told how far the run is.
    """
    if show:
        came_to = DISPLAY.stop()
        DEAD_JOBS.stop()
        if run.cache_info().currsize:  # not if files were asked for by name
            forget(workflow, run().left())
    elif not workflow.local_exec and (said := or_exit(ensure_listening)):
        print(f"dataminer: {said}", file=sys.stderr)
    or_exit(bring_up_to_date, PROJECTS, SETTINGS.monitor, STORE)
    if show:
        if "all" not in QUIET:
            or_exit(summary.show, PROJECTS, sys.stderr, STORE, outcome(came_to))
        SUPERVISOR.stop()
    else:
        or_exit(all_is_read)
        or_exit(remember, PROJECTS, workflow.config_settings.configfiles)
        or_exit(end_with_last_job, workflow)
        connect_only()  # what is stopped from now on stays so
        SUPERVISOR.watch()
        DEAD_JOBS.watch(logger)
        if run.cache_info().currsize:  # not if files were asked for by name
            DISPLAY.start(logger)
