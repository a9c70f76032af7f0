"""``dataminer sync``, deletion, and redoing dedup or detect."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dataminer import commands
from dataminer.cli.options import (
    ConfigFiles,
    Projects,
    of_store,
    paired,
    settings_of,
    store_of,
)
from dataminer.config import Config
from dataminer.db.enums import ProjectVideoStatus, VideoStatus
from dataminer.errors import DataminerError, ErrorClass
from dataminer.store.layout import Store
from dataminer.text import tell

if TYPE_CHECKING:
    from dataminer.sync.deletion.plan import Deletion
    from dataminer.sync.repair.retry_command import Choice

_STATUSES = list(dict.fromkeys(map(str, (*VideoStatus, *ProjectVideoStatus))))
_NO_VIDEOS = (
    "name videos, or choose them with --status or --class,"
    " e.g. dataminer delete-videos --status FAILED --project birds"
)
_SHOWN = 20  # rows and folders that are named; --json has all

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
FilesFlag = Annotated[  # older scripts may give it
    bool, typer.Option("--files", hidden=True, help="No effect: the files are always removed.")
]
ProjectArgument = Annotated[str, typer.Argument(help="The project.", metavar="PROJECT")]


def _status(text: str) -> str:
    if text.upper() not in _STATUSES:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(_STATUSES)}")
    return text.upper()


def register(app: typer.Typer) -> None:
    """Add the commands to the ``dataminer`` command."""
    app.command()(sync)
    app.command("delete-project")(delete_project)
    app.command("delete-videos")(delete_videos)
    app.command("cleanup-orphans")(cleanup_orphans)
    app.command("force-dedup")(force_dedup)
    app.command("force-detect")(force_detect)


def sync(
    *,
    project: Projects = None,
    config: ConfigFiles = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Check every single image of finished folders.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be repaired.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Make the database and the files agree; safe at any time.

    Records results found on disk, resets rows whose files are missing so that the next run makes
    them again, and recreates missing rows from files. Every run also records results at its start
    and end; only this command resets rows and removes incomplete results. Videos that a job is
    working on are left alone. Claims of Slurm jobs that are no longer in the queue are released.

    Example: dataminer sync --project birds --deep
    """
    from dataminer.sync.recovery.dead_jobs import settle_ended
    from dataminer.sync.repair.reconcile import reconcile

    settings = settings_of(config, project)
    store = paired(Store(settings.store_path), dry_run=dry_run)
    for line in [] if dry_run else settle_ended(settings.monitor):
        tell(f"dataminer: {line}", sys.stderr)
    project = project or of_store(settings)
    report = reconcile(store, project, settings.monitor, deep=deep, dry_run=dry_run)
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        _show([str(repair) for repair in report.repairs])
        would = "would be " if dry_run else ""
        print(f"{len(report.repairs)} {would}repaired" if report.repairs else "nothing to repair")
        _show([f"note: {note}" for note in report.notes])
    if report.notes and not report.repairs and project:
        raise typer.Exit(1)


def delete_project(
    name: ProjectArgument,
    *,
    files: Annotated[
        bool,
        typer.Option("--files", help="Also delete its folder, with all results."),
    ] = False,
    videos: Annotated[
        bool,
        typer.Option(
            "--videos",
            help="Also delete its videos that no other project uses; with --files their files too.",
        ),
    ] = False,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Delete a project; its videos are kept unless you add --videos.

    Without --files only rows are deleted, and `dataminer sync --project NAME` restores them.

    Example: dataminer delete-project birds --files --videos
    """
    from dataminer.sync.deletion.plan import plan_project

    settings = settings_of(config, [name])
    store = paired(Store(settings.store_path))
    _delete(plan_project(store, name, files=files, videos=videos), settings, yes)


def delete_videos(
    video: Annotated[
        Optional[list[str]],
        typer.Argument(help="Ids of videos, or prefixes of ids.", metavar="VIDEO"),
    ] = None,
    *,
    project: Annotated[
        Optional[list[str]],
        typer.Option(
            "--project",
            "-p",
            help="Only remove them from this project; may be given several times.",
        ),
    ] = None,
    status: Annotated[
        Optional[list[str]],
        typer.Option(
            parser=_status,
            metavar="STATUS",
            help="Videos with this status, in general or in a project: FAILED, PENDING,"
            " FILTERED_EMPTY, ...; may be given several times.",
        ),
    ] = None,
    error_class: Annotated[
        Optional[list[ErrorClass]],
        typer.Option("--class", help="Failures of this class; may be given several times."),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="Also delete the downloaded files and the frames; with --project, only if no other"
            " project uses the video.",
        ),
    ] = False,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Also delete videos that several projects use.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be deleted.")
    ] = False,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Delete videos, or remove them from a project.

    Name the videos, or choose them with --status and --class; all conditions must apply. With
    --project, videos are only removed from that project. Their filtered folders, which contain
    links to frames, are always deleted, and the next run makes the dataset without them.
    `dataminer populate` adds videos again that are still listed.

    Example: dataminer delete-videos aqz-KE-bpKQ --files

    Example: dataminer delete-videos aqz-KE --project birds

    Example: dataminer delete-videos --status FILTERED_EMPTY --project birds --dry-run

    Example: dataminer delete-videos --class missing_source --project birds --files
    """
    from dataminer.monitor.story import find_video
    from dataminer.sync.config_files import projects_with
    from dataminer.sync.deletion.plan import plan_videos, select_videos

    if not (video or status or error_class):
        raise typer.BadParameter(_NO_VIDEOS)
    if project and all_projects:
        raise typer.BadParameter("--project and --all-projects do not go together")
    ids = [find_video(text) for text in video or []]
    settings = settings_of(config, project or projects_with(ids))
    store = paired(Store(settings.store_path), dry_run=dry_run)
    choice = None
    if status or error_class:
        choice = _choice(project, ids, error_class, status)
        ids = select_videos(choice)
    if not ids:
        print("no such videos: nothing to delete")
        return
    out_of = project or []
    plan = plan_videos(
        store, ids, out_of=out_of, files=files, all_projects=all_projects, choice=choice
    )
    _delete(plan, settings, yes, dry_run=dry_run)
    _print_empty(plan)


def _choice(
    project: list[str] | None,
    videos: list[str],
    error_class: list[ErrorClass] | None,
    status: list[str] | None,
) -> Choice:
    from dataminer.sync.claims import projects
    from dataminer.sync.repair.retry_command import Choice

    projects.ids_of(project or [])  # refuses unknown ones
    conditions = (project, videos, map(str, error_class or ()), status)
    return Choice(*(tuple(condition or ()) for condition in conditions))


def _print_empty(plan: Deletion) -> None:
    from dataminer.sync.deletion.plan import emptied_projects

    for name in emptied_projects(plan):
        print(
            f"project {name} has no videos left. Next: `dataminer delete-project {name} --files`"
            " also deletes what was made from them"
        )


def cleanup_orphans(
    *,
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="Delete folders without a row, and frames that no project uses."
        ),
    ] = False,
    rows: Annotated[
        bool,
        typer.Option(
            "--rows", help="Delete videos that no project uses; with --files their files too."
        ),
    ] = False,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """List files without a row and data that no project uses; delete them with --files and --rows.

    These are folders of unknown videos and projects, frames of settings that no project uses,
    staging folders older than a day, and, with --rows, videos that belong to no project. To create
    rows for the files of a project instead, run `dataminer sync --project NAME`.

    Example: dataminer cleanup-orphans --files
    """
    from dataminer.sync.deletion import orphans

    settings = settings_of(config)
    found = orphans.find_orphans(paired(Store(settings.store_path)))
    plan = orphans.deletion_of_rows(found, files=files)
    paths = [*found.folders, *found.partials, *found.unused]
    _show(_sized([*found.folders, *found.partials]))
    _show([f"{line}, used by no project" for line in _sized(list(found.unused))])
    if found.recent:
        print(
            f"{len(found.recent)} more that no project uses are less than a day old: a run may"
            " be about to use them"
        )
    _show([f"video {video_id}: in no project" for video_id in found.videos])
    if not paths and not found.videos:
        print("no orphans")
    elif not (files and paths) and not (rows and found.videos):
        command = commands.dataminer("cleanup-orphans", "--files", files=config)
        print(f"Next: `{command}` deletes the folders, with --rows also the unused videos")
    elif _agreed(yes):
        gone = orphans.delete_files(found) if files else []
        if rows and plan.videos:
            orphans.delete_rows(found, settings.monitor, files=files)
        print(f"deleted {len(gone)} folders, {len(plan.videos) if rows else 0} videos")


def force_dedup(
    project: ProjectArgument,
    *,
    files: FilesFlag = True,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Compare all frames again, also those kept before."),
    ] = False,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Mark a project's deduplication, and detection after it, to be redone by the next run.

    Frames that were kept stay kept, and only new frames are compared with them. With --rebuild, all
    frames are compared again, as if all videos had been added at once.

    Example: dataminer force-dedup birds --rebuild --yes
    """
    _force(project, "dedup", yes, config, rebuild=rebuild)


def force_detect(
    project: ProjectArgument,
    *,
    files: FilesFlag = True,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Mark a project's detection to be redone by the next run.

    Example: dataminer force-detect birds --yes
    """
    _force(project, "detect", yes, config)


def _force(
    project: str, stage: str, yes: bool, config: list[Path] | None, *, rebuild: bool = False
) -> None:
    from dataminer.sync.claims import projects
    from dataminer.sync.repair.redo import outputs_to_remove, redo

    store = paired(store_of(config, [project]))
    outputs = outputs_to_remove(store, project, stage, rebuild=rebuild)
    projects.project_id_of(project)
    print(f"{stage} of project {project} will be redone{'; this deletes:' if outputs else ''}")
    _show(_sized(list(outputs)))
    if _agreed(yes):
        redo(store, project, stage, rebuild=rebuild)
        print(f"Next: `{commands.snakemake([project], config)}`")


def _delete(plan: Deletion, settings: Config, yes: bool, *, dry_run: bool = False) -> None:
    from dataminer.sync.deletion.delete import carry_out

    for line in plan.summary():
        tell(line)
    if dry_run:
        print("Nothing was deleted. Next: rerun without --dry-run")
    elif _agreed(yes):
        carry_out(plan, settings.monitor)
        print("deleted")


def _agreed(yes: bool) -> bool:
    """Ask on a terminal; without one, ``--yes`` is required."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise DataminerError("nothing was deleted: there is no terminal to ask on", "add --yes")
    if typer.confirm("Delete this?"):
        return True
    print("nothing was deleted")
    return False


def _sized(paths: list[Path]) -> list[str]:
    from dataminer.store.trash import measure_size

    sizes = [(path, measure_size([path])) for path in paths]
    return [f"{path}: {size.files} files, {size.bytes / 1e6:.1f} MB" for path, size in sizes]


def _show(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        tell(line)
    if len(lines) > _SHOWN:
        print(f"... and {len(lines) - _SHOWN} more")
