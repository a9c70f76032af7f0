"""What each stage cost, added up over a project."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataminer.report.data.facts import Facts

STAGES = ("weights", "download", "extract", "filter", "dedup", "detect")
_FETCHED = "weights"  # has no row of its own: Snakemake's benchmark files tell of it


@dataclass(frozen=True)
class Cost:
    """What the results of one stage took.

    Parameters
    ----------
    stage : str
        The stage.
    results : int
        How many: videos, projects or jobs.
    seconds : float
        Wall time of all of them, one after the other.
    slowest : float
        Of the slowest one, in seconds.
    cpu_seconds : float
        Time on processors.
    peak_mb : float
        Greatest memory of one, in MB.
    """

    stage: str
    results: int
    seconds: float
    slowest: float
    cpu_seconds: float
    peak_mb: float


_One = tuple[float, float, float]  # wall seconds, processor seconds, MB


def costs(benchmarks: Path, facts: Facts) -> list[Cost]:
    """Add up what the results of a project took, those that it shares with others included.

    Parameters
    ----------
    benchmarks : Path
        The folder of Snakemake's benchmark files, with one folder per rule.
    facts : Facts
        What the database says.

    Returns
    -------
    list of Cost
        By stage, in their order; stages of which nothing is known are left out.
    """
    found: dict[str, list[_One]] = {}
    for of_one in (*(video.costs for video in facts.videos), facts.costs):
        for stage, cost in of_one.items():
            numbers = (cost.get(key) or 0.0 for key in ("seconds", "cpu_seconds", "peak_mb"))
            found.setdefault(stage, []).append((next(numbers), next(numbers), next(numbers)))
    files = sorted((benchmarks / _FETCHED).rglob("*.tsv"))
    found[_FETCHED] = [one for path in files for one in _rows(path)]
    return [_cost(stage, found[stage]) for stage in STAGES if found.get(stage)]


def _rows(path: Path) -> Iterator[_One]:
    """Yield wall seconds, processor seconds and MB; of a file that is cut off, nothing."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                numbers = [_number(row.get(key)) for key in ("s", "cpu_time", "max_rss")]
                yield numbers[0], numbers[1], numbers[2]
    except (OSError, UnicodeDecodeError, csv.Error):
        return


def _number(value: str | None) -> float:
    try:
        return float(value or 0)
    except ValueError:  # "NA" if a job was too short to be measured
        return 0.0


def _cost(stage: str, found: Iterable[_One]) -> Cost:
    wall, cpu, memory = zip(*found, strict=True)
    return Cost(stage, len(wall), sum(wall), max(wall), sum(cpu), max(memory))
