"""CONTRIBUTING names files that exist, and all files that carry the version agree."""

from __future__ import annotations

import re
from datetime import date

import yaml

from dataminer import __version__
from tests.support.paths import ROOT

_TOP = "|".join(sorted(path.name for path in ROOT.iterdir() if path.name.isidentifier()))
_PATHS = re.compile(rf"(?<![\w/.-])(?:{_TOP})/[\w./-]+|\b[A-Z]+\.(?:md|cff)\b")


def release() -> tuple[str, str]:
    """Return the newest version of the changelog, and its date."""
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == "Unreleased"
    version, day = headings[1].split(" - ")
    return version, day


def test_contributing_names_paths_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = {path.rstrip(".,:") for path in _PATHS.findall(text)}
    assert {"dataminer/errors.py", "rules/filter.smk", "CHANGELOG.md"} <= named
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_all_files_name_the_same_version() -> None:
    version, day = release()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert __version__ == version == citation["version"]
    assert citation["date-released"] == day


def test_versions_of_the_changelog_fall_and_have_dates() -> None:
    headings = re.findall(r"(?m)^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text())
    versions = [tuple(map(int, version.split("."))) for version, _ in headings]
    days = [date.fromisoformat(day) for _, day in headings]
    assert versions == sorted(set(versions), reverse=True)
    assert days == sorted(days, reverse=True)


def test_the_changelog_groups_changes_by_kind() -> None:
    kinds = set(re.findall(r"(?m)^### (.+)$", (ROOT / "CHANGELOG.md").read_text()))
    assert kinds == {"Added", "Changed", "Fixed"}
