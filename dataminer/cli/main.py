"""The ``dataminer`` command and its ``populate``, ``add-video`` and ``status``."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from dataminer import __version__
from dataminer.cli import adopt, budget, db, export, maintain, models, monitor, pages
from dataminer.cli.options import AsJson, ConfigFiles, Projects, readings, tell_strangers
from dataminer.errors import DataminerError

app = typer.Typer(
    name="dataminer",
    help="Videos in, a clean, de-duplicated, annotated image dataset out. "
    "Fill a project with populate or add-video, run snakemake, and check it with status.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(db.app, name="db")
app.add_typer(models.app, name="models")
app.add_typer(budget.app, name="budget")

DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Only show what would be added; change nothing."),
]


@app.command()
def populate(
    config: ConfigFiles = None,
    dry_run: DryRunOption = False,
) -> None:
    """Add everything under `input` of a configuration to its project.

    Searches, playlists and channels are looked up on YouTube; lists, files and folders are read.
    It is safe to rerun: known videos are skipped, and only a link with a new signature replaces the
    old one and is tried next. Sources that cannot be used are reported with their place, and the
    rest is added. Ctrl-C stops the search and adds what was found so far; a second Ctrl-C adds
    nothing. The project remembers the configuration files, so later commands need only its name.

    Example: dataminer populate --config config/birds.yaml

    Example: dataminer populate --dry-run
    """
    from dataminer.cli.ingest import populate_from

    populate_from(config or [], dry_run=dry_run)


@app.command("add-video")
def add_video(
    source: Annotated[
        str,
        typer.Argument(
            help="A YouTube video, playlist or channel, a video URL, a file or a folder."
        ),
    ],
    project: Annotated[str, typer.Option("--project", "-p", help="The project to add it to.")],
    config: ConfigFiles = None,
    dry_run: DryRunOption = False,
) -> None:
    """Add one video to a project, or all videos of a folder, a playlist or a channel.

    input.filters, input.max_videos_per_playlist and download.* of the configuration apply to
    playlists and channels.

    Example: dataminer add-video https://youtu.be/aqz-KE-bpKQ --project birds

    Example: dataminer add-video youtube.com/@BlenderOfficial/videos --project birds --dry-run
    """
    from dataminer.cli.ingest import add_source

    add_source(source, project, files=config or [], dry_run=dry_run)


@app.command()
def status(
    project: Projects = None,
    as_json: AsJson = False,
    config: ConfigFiles = None,
) -> None:
    """Show the state of projects; changes nothing.

    Example: dataminer status --project birds --json
    """
    from dataminer.monitor import status as view

    settings = readings(config, project)
    tell_strangers(settings)
    if as_json:
        print(json.dumps(view.snapshot(project or [], settings).as_json(), indent=2))
    else:
        view.print_status(project or [], sys.stdout, settings)


maintain.register(app)
adopt.register(app)
monitor.register(app)
export.register(app)
pages.register(app)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"dataminer {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command; a known error ends it with one sentence and status 1."""
    try:
        app()
    except DataminerError as error:
        sys.exit(f"dataminer: {error}")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        from dataminer.permissions import explain_os_error

        known = explain_os_error(error)
        if known is None:
            raise
        sys.exit(f"dataminer: {known}")
    except Exception as error:
        from dataminer.db.refusals import last_words

        sentence = last_words(error)
        if sentence is None:
            raise
        sys.exit(f"dataminer: {sentence}")


if __name__ == "__main__":
    main()
