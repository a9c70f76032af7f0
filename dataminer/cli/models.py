"""``dataminer models``: download and list weights of models."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from dataminer.cli.options import ConfigFiles
from dataminer.config import DEFAULT_FILE, Config, load_files
from dataminer.text import tell
from dataminer.vision.hub import MODELS_FOLDER, is_model_folder
from dataminer.vision.weights import fetch, is_there, weights_path, weights_sha256

app = typer.Typer(
    help="Model weights: download them on a machine with a network, for nodes without one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ModelsFolder = Annotated[
    Path, typer.Option("--models", help="The folder of the weights.", show_default=True)
]


@app.command("fetch")
def fetch_weights(
    name: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Published names, such as yolo26n.pt or google/owlv2-base-patch16-ensemble; by "
            "default the models in the configuration.",
            show_default=False,
        ),
    ] = None,
    models: ModelsFolder = MODELS_FOLDER,
    config: ConfigFiles = None,
) -> None:
    """Download weights before a run and print their paths; existing weights are kept.

    A run then needs no network for them. Models of the Hugging Face Hub become folders: owner/name
    is stored as owner--name. Partial downloads are never left behind as weights.

    Example: dataminer models fetch

    Example: dataminer models fetch yolo26n.pt google/owlv2-base-patch16-ensemble
    """
    for model in name or _named(load_files(config or [DEFAULT_FILE]), models):
        there = is_there(weights_path(model, models))
        path = fetch(model, models, progress=True)
        if there:
            print(f"{path} exists already", file=sys.stderr)
        print(path)


def _named(config: Config, folder: Path) -> list[str]:
    """Return the models that a configuration uses, each once.

    Raises
    ------
    ConfigError
        One that embeds frames is a path to nothing.
    """
    from dataminer.stages.embed.frame_models import FrameModels

    models = [config.detect.model]
    if config.filter.content.on:
        models.append(config.filter.content.model)
    for model in replace(FrameModels.of(config), models=folder).embedding_models.values():
        _ = model.checkpoint  # of a path to nothing it names the setting
        models.append(model.name)
    return list(dict.fromkeys(models))


@app.command("list")
def list_weights(
    models: ModelsFolder = MODELS_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the downloaded weights: name, size and SHA-256 (of a folder: of its list of files).

    Example: dataminer models list --json
    """
    visible = (p for p in models.glob("[!.]*") if p.is_file() or is_model_folder(p))
    rows = [(path.name, _size(path), weights_sha256(path)) for path in sorted(visible)]
    if as_json:
        keys = ("name", "bytes", "sha256")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return
    if not rows:
        print(f"no weights in {models}; `dataminer models fetch` downloads them", file=sys.stderr)
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, size, digest in rows:
        tell(f"{name:<{width}}  {size / 1e6:9.1f} MB  {digest}")


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
