"""``dataminer report`` and ``dataminer preview``: write pages for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dataminer.cli.options import ConfigFiles, leave_out, settings_of
from dataminer.config import Config, load
from dataminer.errors import ConfigError
from dataminer.report import REPORT_FILE
from dataminer.store.layout import Store
from dataminer.text import tell

if TYPE_CHECKING:
    from dataminer.preview.measures import Measured, Preview
    from dataminer.stages.filter.thresholds import Threshold


def register(app: typer.Typer) -> None:
    """Add these commands to the ``dataminer`` command."""
    app.command()(preview)
    app.command()(report)


def report(
    project: Annotated[str, typer.Argument(help="The project.")],
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            help="The page to write.",
            show_default="the project's report/index.html in the store",
        ),
    ] = None,
    config: ConfigFiles = None,
) -> None:
    """Write a project's report, with all results so far, as one self-contained page.

    The workflow writes it automatically when a project is complete.

    Example: dataminer report birds --output birds.html
    """
    from dataminer.sync.jobs.report import report_project
    from dataminer.sync.pairing.check import refuse_strangers

    settings = settings_of(config, [project])
    store = Store(settings.store_path)
    refuse_strangers(store)
    out = output or store.report(project) / REPORT_FILE
    size = report_project(settings, project, out, leave_out)
    print(f"{out}: {size / 1e6:.1f} MB. Next: open it in a browser")


def preview(
    project: Annotated[str, typer.Argument(help="The project.", metavar="PROJECT")],
    *,
    settings: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Try a different threshold, such as filter.min_sharpness=0.1; may be given several"
            " times.",
        ),
    ] = None,
    to: Annotated[
        Optional[Path],
        typer.Option(
            "--to",
            help="The folder of the page.",
            show_default="report/preview in the project's folder",
        ),
    ] = None,
    most_videos: Annotated[
        int, typer.Option(min=1, help="Maximum number of videos to sample, spread over all.")
    ] = 500,
    config: ConfigFiles = None,
) -> None:
    """Show how frames compare with the filter's thresholds, with frames just above and below.

    Reads the results of extract and filter, opens a few images, and writes one HTML page; runs no
    stage and changes no result. If a threshold is right, set it in the configuration: `snakemake`
    then reruns filter, which takes seconds, and the stages after it.

    Example: dataminer preview birds

    Example: dataminer preview birds --set filter.min_sharpness=0.1 --set filter.max_black=0.9
    """
    from dataminer.preview.measures import gather_preview
    from dataminer.preview.page import write_page

    configured = settings_of(config, [project], database=False)
    tried = _changed(configured, settings or [])
    store = Store(configured.store_path)
    drawn = gather_preview(
        store,
        project,
        configured.filter,
        tried.filter,
        most_videos=most_videos,
        leave_out=leave_out,
    )
    page = (to or store.report(project) / "preview") / "index.html"
    write_page(page, drawn)
    for line in _table(drawn):
        tell(line)
    print(f"Next: open {page}")


def _changed(config: Config, changes: list[str]) -> Config:
    """Return a configuration with other thresholds, validated like a file."""
    import yaml

    values = config.model_dump()
    for change in changes:
        key, equals, text = change.partition("=")
        first, *path = key.strip().split(".")
        if not equals or first != "filter" or not path:
            raise ConfigError(
                f"--set {change}: expected a threshold of the filter and its value",
                "write it like `--set filter.min_sharpness=0.1`",
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {change}: {text!r} is not a value", "give a number"
            ) from error
        _put(values["filter"], path, value)
    return load(values)


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            inner = values[part] = {}
        values = inner
    values[path[-1]] = value


def _table(drawn: Preview) -> list[str]:
    """Return one line per threshold: its value and how many frames fail it."""
    rows = [_row(each) for each in drawn.measured]
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"{name:<{width}}  {text}" for name, text in rows]
    for tried in sorted({False, any(each.limit != each.tried for each in drawn.measured)}):
        passed = int((~drawn.matrix(tried=tried).any(axis=0)).sum())
        how = "with what is tried" if tried else "as configured"
        lines.append(f"{passed:,} of {drawn.frames:,} frames pass {how}")
    return lines


def _row(measured: Measured) -> tuple[str, str]:
    threshold = measured.threshold
    text = _counted(threshold, measured.limit, int(measured.fails.sum()))
    if measured.limit != measured.tried:
        tried = _counted(threshold, measured.tried, int(measured.tried_fails.sum()))
        text += f"   tried {tried}"
    return threshold.rejects, text


def _counted(threshold: Threshold, limit: float | None, fail: int) -> str:
    setting = threshold.setting(limit)
    return setting if limit is None else f"{setting:<8} {fail:>9,} fail"
