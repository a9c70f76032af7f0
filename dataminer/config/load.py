"""Read and validate settings from a mapping or YAML files; errors name the key."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dataminer.config.models import NAME_PATTERN, Config
from dataminer.errors import ConfigError
from dataminer.urls import mask_text

try:  # libyaml's loader is ten times as fast, but not in every build of PyYAML
    from yaml import CSafeLoader as _Loader
except ImportError:
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

_EXPECTED = {
    "model_type": "must be a mapping of keys and values",
    "string_pattern_mismatch": "has an invalid format",
}
DEFAULT_FILE = Path("config/config.yaml")
"""The file over which all others are merged, in the working directory, as in the ``Snakefile``."""
HINT = "correct it; config/README.md lists every key with its bounds and default"
_NAMES = ("project", "projects")
_SOURCES = ("searches", "query_files", "urls", "url_files", "files")  # of `input`
_SECRETS = ("proxy", "extractor_args")  # of `download`
_COOKIES = ("cookies", "cookies_from_browser")
_ENVIRONMENT = "DATAMINER_DOWNLOAD_SECRETS"


def load(values: Mapping[str, Any]) -> Config:
    """Check a configuration.

    Parameters
    ----------
    values : Mapping
        Nested keys and values, as parsed from YAML.

    Raises
    ------
    ConfigError
        If keys are wrong; names each one, what was expected and what was found.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        lines = [_describe(detail) for detail in error.errors()]
    if len(lines) == 1:
        raise ConfigError(f"config: {lines[0]}", HINT)
    raise ConfigError("config: " + "; ".join(lines), HINT)


def load_files(files: Iterable[Path] = ()) -> Config:
    """Read and check YAML configuration files, as Snakemake reads them.

    Parameters
    ----------
    files : iterable of Path
        Each is merged over those before it, and the first over `DEFAULT_FILE`, if that exists:
        mappings are merged key by key, other values are replaced. The sources under `input` of one
        project do not apply to another project that a later file names.

    Raises
    ------
    ConfigError
        If one cannot be read or is not YAML, or a key is wrong.
    """
    values: dict[str, Any] = {}
    for file in [*([DEFAULT_FILE] if DEFAULT_FILE.is_file() else []), *files]:
        read = read_config_file(file)
        _leave_sources(values, read)
        _lay_over(values, read)
        _last_named(values, read)
    return load(values)


def project_names(values: Mapping[str, Any], arguments: Iterable[str] | None = None) -> list[str]:
    """Return the projects that a configuration or ``--config`` names, as they were typed."""
    found = dict(values)
    for key, names in _named(arguments):
        _last_named(found, {key: names})
    return [str(name) for key in _NAMES for name in _listed(found.get(key)) if name is not None]


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a YAML configuration file, and check only the names of its projects.

    Raises
    ------
    ConfigError
        If it cannot be read, is not YAML, or YAML reads a name as a number or a date.
    """
    try:
        written, values = _read(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            f"name another file with --config FILE; {DEFAULT_FILE} is the one to copy",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"{path} is not valid YAML{line}", "correct it") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values at the top", HINT)
    _refuse_misread(path, written, values)
    return values


def load_run(
    values: MutableMapping[str, Any],
    files: Iterable[Path | str],
    arguments: Iterable[str] | None,
    profiles: Iterable[Path | str] = (),
) -> Config:
    """Check the configuration of a run of Snakemake, and remove its secrets and its ``input``.

    Snakemake writes the configuration into the script of each job; :func:`load_job` adds the
    secrets again.

    Parameters
    ----------
    values : mapping
        Snakemake's own ``config``; it is modified.
    files, profiles : iterable of Path or str
        The files and the profiles that it was read from, in order.
    arguments : iterable of str, optional
        As given with ``--config``. Snakemake reads ``project=2024_05`` as the number 202405.

    Raises
    ------
    ConfigError
        If keys are wrong; names each one, and what was expected.
    """
    for file in files:
        written, read = _read(file)
        _refuse_misread(file, written, read)
        _last_named(values, read)
    for file in profiles:
        written, read = _read(file)
        if isinstance(read.get("config"), Mapping):
            _refuse_misread(file, written["config"], read["config"])
    for key, names in _named(arguments):
        _last_named(values, {key: names})
    _refuse_typed_secrets(arguments or ())
    settings = load(values)
    values.pop("input", None)
    _move_secrets(values)
    return settings


def _refuse_typed_secrets(arguments: Iterable[str]) -> None:
    for name, _, text in (argument.partition("=") for argument in arguments):
        if name == "download" and any(f"{key}:" in text for key in _SECRETS):
            raise ConfigError(
                f"--config download: {' and '.join(_SECRETS)} do not belong on a command line,"
                " which the process list and Snakemake's log show",
                "write them into a configuration file",
            )


def _move_secrets(values: MutableMapping[str, Any]) -> None:
    """Move secrets from the configuration to the environment, which jobs inherit."""
    download = dict(values.get("download") or {})
    secrets = {key: download.pop(key) for key in _SECRETS if key in download}
    if secrets:
        values["download"] = download
        os.environ[_ENVIRONMENT] = json.dumps(secrets)


def load_job(values: Mapping[str, Any]) -> Config:
    """Check the configuration of a job, with the secrets of its run.

    Raises
    ------
    ConfigError
        See :func:`load`.
    """
    secrets = json.loads(os.environ.get(_ENVIRONMENT, "{}"))
    return load({**values, "download": {**(values.get("download") or {}), **secrets}})


class _AsWritten(_Loader):
    """Reads numbers and dates as text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag.endswith((":merge", ":null"))]
        for first, known in _Loader.yaml_implicit_resolvers.items()
    }


def _read(file: Path | str) -> tuple[Any, Any]:
    """Return the contents of a YAML file, as written and as YAML reads them."""
    text = Path(file).read_text(encoding="utf-8")
    return yaml.load(text, _AsWritten) or {}, yaml.load(text, _Loader) or {}


def _named(arguments: Iterable[str] | None) -> Iterator[tuple[str, Any]]:
    """Yield the keys of ``--config`` that name projects, with the names as they were typed."""
    for key, _, text in (argument.partition("=") for argument in arguments or ()):
        if key in _NAMES and text:
            yield key, yaml.load(text, _AsWritten)


def _lay_over(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Merge a configuration over another one, like ``snakemake.utils.update_config``."""
    for key, value in over.items():
        if isinstance(value, Mapping):
            if not isinstance(values.get(key), dict):
                values[key] = {}
            _lay_over(values[key], value)
        else:
            values[key] = value


def _leave_sources(values: dict[str, Any], read: Mapping[str, Any]) -> None:
    """Remove the sources of one project if the file read now names another."""
    named = project_names(read)
    if named and named != project_names(values) and isinstance(values.get("input"), dict):
        for key in _SOURCES:
            values["input"].pop(key, None)


def _last_named(values: MutableMapping[str, Any], read: Any) -> None:
    """Let the last file that names projects decide, with `project` or `projects`."""
    for key in _NAMES if isinstance(read, Mapping) else ():
        if read.get(key):
            values.pop("projects" if key == "project" else "project", None)
            values[key] = read[key]


def _refuse_misread(path: Path | str, written: Any, values: Any) -> None:
    """Refuse a project name that YAML reads as a number or a date: 2024_05 becomes 202405."""
    for key in _NAMES if isinstance(values, dict) else ():
        for name, read in zip(_listed(written.get(key)), _listed(values.get(key)), strict=True):
            if read is None or isinstance(read, str) or (type(read) is int and str(read) == name):
                continue
            if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
                raise ConfigError(
                    f"{path}: {key}: a name is letters, digits, `-` and `_`, got {name!r}", HINT
                )
            made = f"; or write '{read}' for a project that was made under that name"
            raise ConfigError(
                f"{path}: {key}: YAML reads {name} as {read!r}",
                f"put the name in quotes: '{name}'{made if type(read) is int else ''}",
            )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _describe(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggestion(detail['loc'])}"
    if detail["type"] == "value_error":
        message = mask_text(detail["msg"].removeprefix("Value error, "))
        return f"{key}: {message}" if key else message
    if detail["type"] == "string_pattern_mismatch" and detail["loc"][0] in _NAMES:
        return f"{key}: must be letters, digits, `-` and `_`, got {detail['input']!r}"
    message = _EXPECTED.get(detail["type"]) or detail["msg"].replace("Input should", "must")
    given = detail["input"]
    if isinstance(given, (Mapping, list)):
        return f"{key}: {message}, got a {'list' if isinstance(given, list) else 'mapping'}"
    if detail["loc"][0] == "download" and not {*_SECRETS, *_COOKIES}.isdisjoint(detail["loc"]):
        return f"{key}: {message}"
    return f"{key}: {message}, got {mask_text(repr(given))}"


def _suggestion(loc: tuple[int | str, ...]) -> str:
    """Name the known key nearest to an unknown one, or all keys of that section."""
    model: Any = Config
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        model = field.annotation if field else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ""
    known = sorted(model.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known here: {', '.join(known)}"
