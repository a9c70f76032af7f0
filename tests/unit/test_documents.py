"""What documents and messages tell people to install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

STRANGER = "dataminer"  # on the package index, somebody else's
_TOOLS = r"(?:pip3?|uv(?:\s+tool)?|pipx|conda|mamba)\s+(?:pip\s+)?install|uv\s+add|uvx|pipx\s+run"
_INSTALL = re.compile(rf"\b(?:{_TOOLS})\b((?:[^\n`\\]|\\\n)*)")
_KINDS = ("*.md", "*.py", "*.smk", "*.sh", "*.yaml", "*.toml", "*.rst", "Makefile", "Snakefile")


def texts() -> list[Path]:
    tops = [path for path in ROOT.iterdir() if not path.name.startswith(".")]  # no environment
    below = [path for top in tops if top.is_dir() for kind in _KINDS for path in top.rglob(kind)]
    found = {*below, *(top for top in tops if any(map(top.match, _KINDS)))}
    return sorted(found - {Path(__file__)})


def test_nothing_installs_another_package_of_our_name() -> None:
    found = [
        (str(path.relative_to(ROOT)), installed)
        for path in texts()
        for installed in _INSTALL.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(found) >= 3  # the documents do say how to install ours
    assert [it for it in found if STRANGER in re.findall(r"[a-z0-9][\w.-]*", it[1].lower())] == []


@pytest.mark.parametrize(
    "text", ["pip install 'dataminer[x]'", "uv add \\\n  dataminer", "uvx dataminer"]
)
def test_what_would_is_seen(text: str) -> None:
    (installed,) = _INSTALL.findall(f"Run `{text}` and go on with dataminer")
    assert STRANGER in installed


def test_the_distribution_has_a_name_of_its_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] != STRANGER
    extras = [name for listed in project["optional-dependencies"].values() for name in listed]
    assert not [name for name in extras if re.match(rf"{STRANGER}\b(?!-)", name)]
    assert project["scripts"] == {"dataminer": "dataminer.cli.main:main"}
