"""``dataminer export``: write a project's dataset in common training formats."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataminer.cli.options import ConfigFiles, settings_of
from dataminer.store.layout import Store
from dataminer.text import tell

if TYPE_CHECKING:
    from dataminer.export.dataset import Dataset
    from dataminer.export.make import Exported

_SECONDS_BETWEEN_LINES = 5.0  # seconds


class Format(StrEnum):
    """The export formats."""

    COCO = "coco"
    YOLO = "yolo"
    WEBDATASET = "webdataset"
    IMAGEFOLDER = "imagefolder"
    CSV = "csv"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    """Add the command to the ``dataminer`` command."""
    app.command()(export)


def export(
    project: Annotated[str, typer.Argument(help="The project.", metavar="PROJECT")],
    *,
    kind: Annotated[
        list[Format],
        typer.Option("--format", "-f", help="The format; may be given several times."),
    ],
    to: Annotated[
        Path, typer.Option("--to", help="The folder; each format gets a subfolder with its name.")
    ],
    frames_only: Annotated[
        bool,
        typer.Option(
            "--frames-only",
            "--unlabelled",
            help="Export the unique frames without annotations; possible once dedup is done.",
        ),
    ] = False,
    val_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the videos in val.")
    ] = 0.2,
    test_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the videos in test.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Random seed of the split.")] = 0,
    shard_mb: Annotated[
        int, typer.Option(min=1, help="WebDataset: maximum megabytes per archive.")
    ] = 256,
    copy: Annotated[
        bool,
        typer.Option("--copy", help="Copy the images instead of hard-linking them."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace whatever is in the target folder.")
    ] = False,
    config: ConfigFiles = None,
) -> None:
    """Write a project's dataset for training: COCO, YOLO, WebDataset, imagefolder, CSV, Parquet.

    All frames of a video are in the same split, so no video leaks from train into val, and adding
    videos moves no other video. Each export lists the source of every frame: video, second, author
    and licence. An export is never left incomplete. It replaces an earlier export, and refuses to
    overwrite anything else.

    Example: dataminer export birds --format yolo --to exports/birds

    Example: dataminer export birds -f coco -f webdataset --to exports/birds --test-share 0.1
    """
    from dataminer.export.dataset import load_labelled, load_unlabelled
    from dataminer.export.make import Options
    from dataminer.export.make import export as make
    from dataminer.export.splits import Shares

    options = Options(Shares(val_share, test_share, seed), copy, shard_mb * 10**6, force)
    load = load_unlabelled if frames_only else load_labelled
    dataset = load(Store(settings_of(config, [project], database=False).store_path), project)
    notes: dict[str, None] = {}
    for each in dict.fromkeys(kind):
        exported = make(dataset, each, to, options, progress=_ProgressLines(each))
        notes.update(dict.fromkeys(exported.notes))
        tell(_summary(each, exported, dataset))
    for note in notes:
        tell(f"note: {note}", sys.stderr)


class _ProgressLines:
    """Reports the progress of an export on stderr from time to time."""

    def __init__(self, what: str) -> None:
        self._what, self._next = what, time.monotonic() + _SECONDS_BETWEEN_LINES

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES
        print(f"{self._what}: {done:,} of {total:,} images", file=sys.stderr)


def _summary(kind: str, exported: Exported, dataset: Dataset) -> str:
    parts = [
        f"{split} {images:,} from {_count(exported.videos[split], 'video')}"
        for split, images in exported.images.items()
    ]
    line = f"{kind}: {exported.folder}: {_count(sum(exported.images.values()), 'image')}"
    line += f" ({', '.join(parts)})"
    if dataset.labelled:
        objects = _count(sum(exported.objects.values()), "object")
        line += f", {objects} of {_count(len(dataset.names), 'class', 'classes')}"
    return line


def _count(number: int, thing: str, things: str = "") -> str:
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
