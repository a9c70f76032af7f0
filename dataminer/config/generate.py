"""Make ``config/``'s schema, default file and reference table from the models."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dataminer.config.models import Config
from dataminer.config.section import describe

SCHEMA_FILE = "config.schema.json"
_HEADER = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# What to mine, and how. Every key has a default: keep what you want to change, or all of it.
# Generated from dataminer/config/models.py; the reference is config/README.md.
"""
_README = """\
# Configuration

`snakemake` and `dataminer` read `config/config.yaml` of the folder that they are started in. Other
files lie over it, in the order given: `snakemake --configfile birds.yaml`, `dataminer populate -c
birds.yaml`. A mapping is merged key by key, anything else is replaced. If a file names another
project than those before it, what they list under `input` does not count for it. Single keys of a
run are given with `snakemake --config project=birds` or `--config 'extract={every_seconds: 2}'`.

**A project remembers the files that it was last run with** (their names, not what they say), or
first populated with. So `snakemake --config project=birds`, `dataminer export birds` or `dataminer
status` read them again, and the run says so. Files that are named take their place: `--configfile
config/config.yaml` is the default file alone. What counts is, in this order: the command line,
files that are named, files of the last run, `config/config.yaml`.

A changed value re-runs the stages it touches and what follows them, nothing else: `filter.*`
re-runs filter, dedup and detect; `dedup.*` dedup and detect; `detect.*` detect. After a change of
`extract.*`, frames are made beside those of other projects' settings. A change of `download.*`
applies to videos that are not fetched yet, or failed. `dataminer status` counts those
that were fetched with other settings, `dataminer retry --download VIDEO` fetches one again, and
`snakemake -R download` all.
`input.*` is only read by `dataminer populate`, `monitor.*` changes no result.

`input.filters` holds for searches, playlists and channels, by what YouTube's lists tell without a
request for each video: durations, mostly, and how long ago each was uploaded, in whole days, weeks,
months or years. A search also has YouTube filter, as its own search page does: by licence, and by
date and duration where its classes fit. A video that breaks a filter for certain is left out; one
whose list says too little is taken, as are all licences in playlists and channels: such videos are
judged when they are downloaded, by `download.policy`. A list of links is read with your rights: it
may name your own files, and servers in your own network.

Editors that know `yaml-language-server` complete keys and check values by `config.schema.json`.
This table is generated from `dataminer/config/models.py` by `python -m dataminer.config.generate`.

| key | default | takes | meaning |
|-----|---------|-------|---------|
"""


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    describe(Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def default_yaml() -> str:
    """Return the default configuration as commented YAML."""
    describe(Config)
    return _HEADER + "".join(_yaml_lines(Config(), indent=0))


def reference() -> str:
    """Return the reference of all keys as Markdown."""
    describe(Config)
    return _README + "".join(_rows(Config(), prefix=""))


def texts() -> dict[str, str]:
    """Return the generated files' texts by name."""
    return {
        SCHEMA_FILE: json.dumps(schema(), indent=2) + "\n",
        "config.yaml": default_yaml(),
        "README.md": reference(),
    }


def main(arguments: list[str], folder: Path = Path("config")) -> int:
    """Write the files, or with ``--check`` name those that differ; return the exit status."""
    differ = [
        folder / name
        for name, text in texts().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    if arguments == ["--check"]:
        for path in differ:
            print(f"{path} is not what {__spec__.name} generates", file=sys.stderr)
        return len(differ)
    for path in differ:
        path.write_text(texts()[path.name], encoding="utf-8")
        print(path)
    return 0


def _yaml_lines(model: BaseModel, indent: int) -> list[str]:
    pad = "  " * indent
    lines = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            lines += [f"\n{pad}# {value.__doc__}\n{pad}{name}:\n", *_yaml_lines(value, indent + 1)]
            continue
        if name == "projects":
            lines.append(f"{pad}# projects: [a, b]  # {field.description}\n")
            continue
        lines.append(f"{pad}# {field.description}\n{pad}{name}: {_scalar(value)}\n")
    return lines


def _scalar(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _rows(model: BaseModel, prefix: str) -> list[str]:
    rows = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            rows += _rows(value, f"{prefix}{name}.")
            continue
        rows.append(
            f"| `{prefix}{name}` | `{_scalar(value)}` | {_takes(field)} | {field.description} |\n"
        )
    return rows


def _takes(field: FieldInfo) -> str:
    bounds = []
    for item in field.metadata:
        for sign, attribute in (("≥", "ge"), (">", "gt"), ("≤", "le"), ("<", "lt")):
            if getattr(item, attribute, None) is not None:
                bounds.append(f"{sign} {getattr(item, attribute)}")
    return " ".join([_type_name(field.annotation), ", ".join(bounds)]).strip()


def _type_name(annotation: Any) -> str:
    arguments = get_args(annotation)
    if get_origin(annotation) is list:
        return "list of text"
    if get_origin(annotation) in (types.UnionType, Union, Annotated):
        return _type_name(arguments[0])
    if arguments and not isinstance(arguments[0], type):
        return ", ".join(f"`{choice}`" for choice in arguments)
    names = {int: "whole number", float: "number", bool: "true/false"}
    return names.get(annotation, "text")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
