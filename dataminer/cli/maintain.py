"""``dataminer sync``, deletion, and having dedup or detect made again."""

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
    from dataminer.sync.deletion.deletion import Deletion

_STATUSES = list(dict.fromkeys(map(str, (*VideoStatus, *ProjectVideoStatus))))
_SHOWN = 20  # rows and folders that are named; --json has all

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
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
        bool, typer.Option("--deep", help="Look for every single image of finished folders.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only say what would be mended.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Make database and files agree, both ways; safe at any time.

    Rows take up results that they did not know of; rows whose files are gone are put back, so that
    the next snakemake makes them again; rows that are missing are made from the files. Each run
    takes up results by itself at its start and end; rows are put back, and what is not whole is
    removed, only here. What a job works on at this moment is left alone; of Slurm jobs that hold
    videos and are no longer in the queue, what they held is given back.

    Example: dataminer sync --project birds --deep
    """
    from dataminer.sync.claims.dead_jobs import settle_ended
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
        _show([str(mend) for mend in report.mends])
        would = "would be " if dry_run else ""
        print(f"{len(report.mends)} {would}mended" if report.mends else "nothing to mend")
        _show([f"note: {note}" for note in report.notes])
    if report.notes and not report.mends and project:
        raise typer.Exit(1)


def delete_project(
    name: ProjectArgument,
    *,
    files: Annotated[
        bool, typer.Option("--files", help="Also its folder: filtered, dedup, detect, report.")
    ] = False,
    videos: Annotated[
        bool,
        typer.Option(
            "--videos",
            help="Also its videos that no other project uses; with --files their files too.",
        ),
    ] = False,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Delete a project; its videos stay for others and for later, unless --videos is said.

    Without --files only rows go, and `dataminer sync --project NAME` brings them back.

    Example: dataminer delete-project birds --files --videos
    """
    from dataminer.sync.deletion.deletion import plan_project

    settings = settings_of(config, [name])
    store = paired(Store(settings.store_path))
    _delete(plan_project(store, name, files=files, videos=videos), settings, yes)


def delete_videos(
    video: Annotated[
        Optional[list[str]],
        typer.Argument(help="Ids of videos, or the beginnings of them.", metavar="VIDEO"),
    ] = None,
    *,
    project: Annotated[
        Optional[list[str]],
        typer.Option(
            "--project",
            "-p",
            help="Only take them out of this project; may be given several times.",
        ),
    ] = None,
    status: Annotated[
        Optional[list[str]],
        typer.Option(
            parser=_status,
            metavar="STATUS",
            help="Videos with this status, their own or in a project: FAILED, PENDING,"
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
            help="Also the downloaded files and the frames; with --project, those of videos that"
            " no other project uses.",
        ),
    ] = False,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Also videos that several projects use.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be deleted.")
    ] = False,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Delete videos, or take them out of a project.

    Videos are named, or chosen with --status and --class; what is given must all apply. With
    --project, they leave this project and stay for others and for later. Their filtered folders,
    which are links to frames, always go, and the next snakemake makes the dataset without them.
    `dataminer populate` adds again what is still listed.

    Example: dataminer delete-videos aqz-KE-bpKQ --files

    Example: dataminer delete-videos aqz-KE --project birds

    Example: dataminer delete-videos --status FILTERED_EMPTY --project birds --dry-run

    Example: dataminer delete-videos --class missing_source --project birds --files
    """
    from dataminer.monitor.story import find
    from dataminer.sync.claims import projects
    from dataminer.sync.config_files import projects_with
    from dataminer.sync.deletion import deletion
    from dataminer.sync.repair.retry import Choice

    if not (video or status or error_class):
        raise typer.BadParameter(
            "name videos, or choose them with --status or --class,"
            " e.g. dataminer delete-videos --status FAILED --project birds"
        )
    if project and all_projects:
        raise typer.BadParameter("--project and --all-projects do not go together")
    ids = [find(text) for text in video or []]
    settings = settings_of(config, project or projects_with(ids))
    store = paired(Store(settings.store_path), dry_run=dry_run)
    choice = None
    if status or error_class:
        projects.ids_of(project or [])
        asked = (project, ids, map(str, error_class or ()), status)
        choice = Choice(*(tuple(given or ()) for given in asked))
        ids = deletion.chosen(choice)
        if not ids:
            print("no such videos: nothing to delete")
            return
    plan = deletion.plan_videos(
        store,
        ids,
        out_of=project or [],
        files=files,
        all_projects=all_projects,
        choice=choice,
    )
    _delete(plan, settings, yes, dry_run=dry_run)
    for name in deletion.left_empty(plan):
        print(
            f"project {name} has no videos left. Next: `dataminer delete-project {name} --files`"
            " deletes what was made of them, too"
        )


def cleanup_orphans(
    *,
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="Delete the folders that no row knows, and frames that no project uses."
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
    """List what no row knows of and what no project uses; delete it with --files and --rows.

    Folders of unknown videos and projects, frames of settings that no project uses any more,
    staging folders that were left more than a day ago, and, with --rows, videos that belong to no
    project. `dataminer sync --project NAME` makes rows
    for a project's files instead.

    Example: dataminer cleanup-orphans --files
    """
    from dataminer.sync.deletion import orphans

    settings = settings_of(config)
    found = orphans.find(paired(Store(settings.store_path)))
    plan = orphans.deletion_of_rows(found, files=files)
    paths = [*found.folders, *found.partials, *found.unused]
    _show(_sized([*found.folders, *found.partials]))
    _show([f"{line}, used by no project" for line in _sized(list(found.unused))])
    if found.young:
        print(
            f"{len(found.young)} more that no project uses were made less than a day ago: a run may"
            " be about to use them"
        )
    _show([f"video {video_id}: in no project" for video_id in found.videos])
    if not paths and not found.videos:
        print("no orphans")
    elif not (files and paths) and not (rows and found.videos):
        command = commands.dataminer("cleanup-orphans", "--files", files=config)
        print(f"Next: `{command}` deletes the folders, with --rows also the videos of no project")
    elif _agreed(yes):
        gone = orphans.delete_files(found) if files else []
        if rows and plan.videos:
            orphans.delete_rows(found, settings.monitor, files=files)
        print(f"deleted {len(gone)} folders, {len(plan.videos) if rows else 0} videos")


def force_dedup(
    project: ProjectArgument,
    *,
    files: Annotated[bool, typer.Option("--files", help="Implied: its tables go.")] = True,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Judge all frames anew, also those kept before.")
    ] = False,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Have the next snakemake run dedup of a project again, and detect after it.

    Frames that were kept stay kept, and only what is new is compared with them; with --rebuild all
    frames are judged anew, as if they had come at once.

    Example: dataminer force-dedup birds --rebuild --yes
    """
    _force(project, "dedup", yes, config, rebuild=rebuild)


def force_detect(
    project: ProjectArgument,
    *,
    files: Annotated[bool, typer.Option("--files", help="Implied: its annotations go.")] = True,
    yes: Yes = False,
    config: ConfigFiles = None,
) -> None:
    """Have the next snakemake run detect of a project again.

    Example: dataminer force-detect birds --yes
    """
    _force(project, "detect", yes, config)


def _force(
    project: str, stage: str, yes: bool, config: list[Path] | None, *, rebuild: bool = False
) -> None:
    from dataminer.sync.claims import projects
    from dataminer.sync.deletion import deletion

    store = paired(store_of(config, [project]))
    outputs = deletion.outputs_of(store, project, stage, rebuild=rebuild)
    projects.id_of(project)
    print(f"{stage} of project {project} will be made again{'; these go:' if outputs else ''}")
    _show(_sized(list(outputs)))
    if _agreed(yes):
        deletion.force(store, project, stage, rebuild=rebuild)
        print(f"Next: `{commands.snakemake([project], config)}`")


def _delete(plan: Deletion, settings: Config, yes: bool, *, dry_run: bool = False) -> None:
    from dataminer.sync.deletion.deletion import carry_out

    for line in plan.summary():
        tell(line)
    if dry_run:
        print("Nothing was deleted. Next: the same without --dry-run")
    elif _agreed(yes):
        carry_out(plan, settings.monitor)
        print("deleted")


def _agreed(yes: bool) -> bool:
    """Ask on a terminal; elsewhere only ``--yes`` will do."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise DataminerError("nothing was deleted: there is no terminal to ask on", "add --yes")
    if typer.confirm("Delete this?"):
        return True
    print("nothing was deleted")
    return False


def _sized(paths: list[Path]) -> list[str]:
    from dataminer.store.trash import measure

    sizes = [(path, measure([path])) for path in paths]
    return [f"{path}: {size.files} files, {size.bytes / 1e6:.1f} MB" for path, size in sizes]


def _show(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        tell(line)
    if len(lines) > _SHOWN:
        print(f"... and {len(lines) - _SHOWN} more")
