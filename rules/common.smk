# Settings and targets that the rules share: thin wrappers over the dataminer package.
import os
import sys
from functools import cache
from pathlib import Path

import psycopg2
from dataminer import targets
from dataminer.config import load_run
from dataminer.db.embedded import ensure_listening
from dataminer.db.guard import Guard
from dataminer.db.refusals import last_words
from dataminer.environment import connect_only, let_jobs_import
from dataminer.errors import DataminerError
from dataminer.monitor import status
from dataminer.stages import VERSIONS, policy_mark
from dataminer.stages.weights import file_of, to_fetch, weights_path
from dataminer.store import Store
from dataminer.sync.mirror import Mirror
from dataminer.sync.report import result_settings
from dataminer.sync.results import judged_by
from dataminer.sync.run import bring_up_to_date
from snakemake.cli import get_profile_dir
from snakemake.logging import logger


wildcard_constraints:
    video_id=r"[A-Za-z0-9_-]+",
    project=r"[A-Za-z0-9_-]+",
    weights=r"[A-Za-z0-9_.-]+",
    part=r"\d+",
    parts=r"\d+",


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

SETTINGS = or_exit(
    load_run,
    config,
    # those of the command line lie over the Snakefile's own, and come before it in this list
    sorted(workflow.configfiles, key=workflow.config_settings.configfiles.__contains__),
    workflow.config_settings.config_args,
    profiles(),
)
STORE = Store(SETTINGS.store_path)
MODELS = Path("models")
PROJECTS = SETTINGS.project_names
POLICY = policy_mark(SETTINGS.download.policy)
MIRROR = Mirror()
GUARD = Guard()


def growing(amount):
    """Return a resource that grows with each attempt: a job killed for lack of it gets more."""

    def resource(wildcards, attempt):
        return amount * attempt

    return resource


# ---- targets: asked of the database by the process that plans, when it plans ------------------


@cache
def wanted():
    """What this run has to see to; Snakemake knows its own options only once this file is read."""
    forced = workflow.dag_settings.forceall or workflow.dag_settings.forcerun
    return targets.Targets(SETTINGS, whole=bool(forced))


def tables_to_filter(wildcards):
    """The filtered tables that must be there before dedup; a job on a node asks for none."""
    if not workflow.is_main_process:
        return []
    return or_exit(wanted().inputs_of_dedup, wildcards.project)


def videos_digest(wildcards):
    """What changes when a video joins or leaves a project."""
    if not workflow.is_main_process:
        return None
    return or_exit(targets.digest, wildcards.project)


def policy_of(wildcards):
    """The policy that has the last word on a video: for what it refused, the present one."""
    return judged_by(STORE.video(wildcards.video_id), POLICY)


def all_infos(wildcards):
    """What each video's download leaves."""
    return or_exit(wanted().infos, PROJECTS)


def all_frames(wildcards):
    """The frame tables of all videos."""
    return or_exit(wanted().frames, PROJECTS)


def all_filtered(wildcards):
    """The filtered frame tables of all videos in all projects."""
    return or_exit(wanted().filtered, PROJECTS)


def all_unique(wildcards):
    """The tables of unique frames of all projects."""
    return [str(STORE.dedup(project) / "frames.parquet") for project in PROJECTS]


def all_annotations(wildcards):
    """The annotations of all projects."""
    return [str(STORE.detect(project) / "annotations.json") for project in PROJECTS]


def all_reports(wildcards):
    """The report of each project."""
    return [str(STORE.report(project) / "index.html") for project in PROJECTS]


def detect_weights(wildcards):
    """The file of the detector's weights: as given, or models/NAME, which rule weights fetches."""
    return weights_file(SETTINGS.detect.model)


def weights_file(model):
    """The file of a detector's weights: as given, or models/NAME, which rule weights fetches."""
    resolve = to_fetch if workflow.is_main_process else weights_path
    return str(file_of(or_exit(resolve, model, MODELS), model))


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


def tell_database(show=False):
    """Bring the database up to date before the first job and, with `show`, after the last.

    Claims of dead jobs are given back, rows take up whole files that they did not know of, counters
    and stages follow. In between, the database is told of jobs that were killed.
    """
    if show:
        GUARD.stop()
        MIRROR.stop()
        keep_failed_due()
    elif not workflow.local_exec and (said := or_exit(ensure_listening)):
        print(f"dataminer: {said}", file=sys.stderr)
    or_exit(bring_up_to_date, STORE, PROJECTS, SETTINGS.monitor)
    if show:
        or_exit(status.show, PROJECTS, sys.stderr)
    else:
        GUARD.watch()
        MIRROR.watch(logger)
