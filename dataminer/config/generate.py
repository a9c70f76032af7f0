"""Generate the schema, the default file and the reference in ``config/`` from the models."""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dataminer.config.models import Config
from dataminer.config.section import set_descriptions

SCHEMA_FILE = "config.schema.json"
_HEADER = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# What to mine, and how. Every key has a default: delete the keys that you do not change.
# Generated from dataminer/config/models.py; config/README.md is the reference.
"""
_README = """\
# Configuration

`snakemake` and `dataminer` read `config/config.yaml` in the folder where you start them. Further
files are merged over it, in the order given: `snakemake --configfile birds.yaml`, `dataminer
populate -c birds.yaml`. Mappings are merged key by key; any other value is replaced. If a file
names a different project than the files before it, it does not inherit the sources that they list
under `input`. To set single keys for one run, use `snakemake --config project=birds` or `--config
'extract={every_seconds: 2}'`.

**A project remembers the configuration files of its last run**, or those that it was first
populated with: their names, not their contents. Commands that name the project, such as `snakemake
--config project=birds`, `dataminer export birds` or `dataminer status`, read them again, and the
run says so. Files that you name replace the remembered ones: `--configfile config/config.yaml` uses
the default file alone. The order of precedence is: the command line, named files, the files of the
last run, `config/config.yaml`.

A changed value reruns the stages that it affects and the stages after them, nothing else:
`filter.*` reruns filter, dedup and detect; `dedup.*` dedup and detect; `detect.*` detect. After a
change of `extract.*`, the new frames are stored beside those of other settings. A change of
`download.*` applies only to videos that are not downloaded yet, or that failed: `dataminer status`
counts the videos that were downloaded with other settings, `dataminer retry --download VIDEO`
downloads one again, and `snakemake -R download` all of them. Only `dataminer populate` reads
`input.*`, and `monitor.*` changes no result.

`input.filters` applies to searches, playlists and channels. It uses what YouTube's lists contain
without a request for each video: mostly the duration, and how long ago a video was uploaded, in
whole days, weeks, months or years. For searches, YouTube also filters by licence, and by date and
duration if its classes fit. A video that certainly violates a filter is left out. A video with too
little information is added, as are all licences in playlists and channels; `download.policy` checks
such videos before they are downloaded. A list of links is read with your permissions, so it can
name your own files and servers in your own network.

Editors that support `yaml-language-server` complete keys and check values with
`config.schema.json`. The command `python -m dataminer.config.generate` creates this table from
`dataminer/config/models.py`.

| key | default | takes | meaning |
|-----|---------|-------|---------|
"""


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    set_descriptions(Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def default_yaml() -> str:
    """Return the default configuration as commented YAML."""
    set_descriptions(Config)
    return _HEADER + "".join(_yaml_lines(Config(), indent=0))


def reference() -> str:
    """Return the reference of all keys as Markdown."""
    set_descriptions(Config)
    return _README + "".join(_rows(Config(), prefix=""))


def texts() -> dict[str, str]:
    """Return the generated files' texts by name."""
    return {
        SCHEMA_FILE: json.dumps(schema(), indent=2) + "\n",
        "config.yaml": default_yaml(),
        "README.md": reference(),
    }


def main(arguments: Sequence[str], folder: Path = Path("config")) -> int:
    """Write the files, or with ``--check`` list those that differ; return the exit status."""
    parser = argparse.ArgumentParser("python -m dataminer.config.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="list files that differ; write none")
    check = parser.parse_args(arguments).check
    differ = [
        folder / name
        for name, text in texts().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    if check:
        for path in differ:
            print(f"{path} differs from what {__spec__.name} generates", file=sys.stderr)
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
        cells = (f"`{prefix}{name}`", f"`{_scalar(value)}`", _takes(field), field.description or "")
        escaped = (cell.replace("|", r"\|") for cell in cells)  # it would begin another cell
        rows.append(f"| {' | '.join(escaped)} |\n")
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
