"""What pyproject.toml asks for, and the other places that name versions or packages."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.paths import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
RUNTIME = [*PROJECT["dependencies"], *EXTRAS["detect"], *EXTRAS["semantic"], *EXTRAS["demo"]]
ALL = [*PROJECT["dependencies"], *chain(*EXTRAS.values())]
OWN = PROJECT["name"]
SAME = {"opencv-python-headless": "opencv-python"}  # without windows


def requested(texts: list[str]) -> list[Requirement]:
    return [found for found in map(Requirement, texts) if found.name != OWN]


def exact_versions() -> dict[str, str]:
    """Return the exact versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def lower_bound(requirement: Requirement) -> str:
    (bound,) = (part.version for part in requirement.specifier if part.operator == ">=")
    return bound


@pytest.mark.parametrize("requirement", requested(ALL), ids=str)
def test_a_version_is_exact_in_constraints_alone(requirement: Requirement) -> None:
    assert not {part.operator for part in requirement.specifier} & {"==", "===", "~="}
    version = exact_versions().get(canonicalize_name(requirement.name))
    assert version is not None, "run make constraints"
    assert requirement.specifier.contains(version, prereleases=True)


@pytest.mark.parametrize("requirement", requested(RUNTIME), ids=str)
def test_what_is_needed_has_a_lower_bound(requirement: Requirement) -> None:
    assert Version(lower_bound(requirement))


def test_the_workflow_asks_for_the_snakemake_that_is_installed_at_least() -> None:
    (snakemake,) = (found for found in requested(RUNTIME) if found.name == "snakemake")
    (stated,) = re.findall(r'min_version\("(.+)"\)', (ROOT / "Snakefile").read_text("utf-8"))
    assert stated == lower_bound(snakemake)


@pytest.mark.parametrize("path", sorted(ROOT.glob("envs/*.yaml")), ids=lambda path: path.stem)
def test_environments_of_rules_have_the_tested_versions(path: Path) -> None:
    parts = yaml.safe_load(path.read_text("utf-8"))["dependencies"]
    (named,) = (part["pip"] for part in parts if isinstance(part, dict))
    for requirement in requested(named):
        name = SAME.get(requirement.name, requirement.name)
        assert str(requirement.specifier) == f"=={exact_versions()[canonicalize_name(name)]}"


def test_contributing_says_what_each_is_for() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = text.partition("## What each dependency is for")[2].partition("\n## ")[0]
    cells = [row.split("|")[1] for row in re.findall(r"^\|.*\|$", table, re.MULTILINE)[2:]]
    named = {
        canonicalize_name(name) for cell in cells for name in re.findall(r"[\w-]+", bare(cell))
    }
    expected = {canonicalize_name(found.name) for found in requested(ALL)}
    assert named == {name for name in expected if not name.startswith("types-")}


def bare(cell: str) -> str:
    """Take out the names of extras, and of what people install by themselves."""
    return re.sub(r"\(.*?\)|;.*", "", cell)
