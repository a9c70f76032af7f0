"""From a mapping or a YAML file to checked settings, with errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dataminer.config.models import Config
from dataminer.errors import ConfigError

_EXPECTED = {
    "model_type": "must hold keys and values",
    "string_pattern_mismatch": "must be letters, digits, `-` and `_` in the form described",
}
HINT = "correct it; config/README.md lists every key with its bounds and default"


def load(values: Mapping[str, Any]) -> Config:
    """Check a configuration.

    Parameters
    ----------
    values : Mapping
        Nested keys and values, as YAML gives them.

    Raises
    ------
    ConfigError
        Naming each key that is wrong, what was expected and what was found.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        lines = [_describe(detail) for detail in error.errors()]
    if len(lines) == 1:
        raise ConfigError(f"config: {lines[0]}", HINT)
    raise ConfigError("config: " + "; ".join(lines), HINT)


def load_file(path: Path) -> Config:
    """Read and check a YAML configuration file.

    Raises
    ------
    ConfigError
        When it cannot be read, is not YAML, or a key of it is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            "name another file with --config FILE; config/config.yaml is the one to copy",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ConfigError(f"{path} is not valid YAML{line}", "correct it") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values at the top", HINT)
    return load(values)


def _describe(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggestion(detail['loc'])}"
    if detail["type"] == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    message = _EXPECTED.get(detail["type"]) or detail["msg"].replace("Input should", "must")
    return f"{key}: {message}, got {detail['input']!r}"


def _suggestion(loc: tuple[int | str, ...]) -> str:
    """Name the known key nearest to an unknown one, or all keys that stand there."""
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
