"""The cost of each stage, summed over a project."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataminer.report.data.facts import ProjectFacts

_MEASURED = ("weights", "download", "extract", "filter", "dedup", "detect")
_FETCHED = "weights"  # it has no row in the database, only Snakemake's benchmark files


@dataclass(frozen=True)
class Cost:
    """Time and memory that the results of one stage took.

    Parameters
    ----------
    stage : str
        The stage.
    results : int
        How many: videos, projects or jobs.
    seconds : float
        Sum of their wall times.
    slowest : float
        Wall time of the slowest one, in seconds.
    cpu_seconds : float
        Sum of their processor times.
    peak_mb : float
        Highest memory use of any one, in MB.
    """

    stage: str
    results: int
    seconds: float
    slowest: float
    cpu_seconds: float
    peak_mb: float


_One = tuple[float, float, float]  # wall seconds, processor seconds, MB


def costs(benchmarks: Path, facts: ProjectFacts) -> list[Cost]:
    """Sum up the cost of a project's results, including those that it shares with other projects.

    Parameters
    ----------
    benchmarks : Path
        The folder of Snakemake's benchmark files, with one folder per rule.
    facts : ProjectFacts
        What the database has on the project.

    Returns
    -------
    list of Cost
        In the order of the stages, without stages that have no known cost.
    """
    found: dict[str, list[_One]] = {}
    for of_one in (*(video.costs for video in facts.videos), facts.costs):
        for stage, cost in of_one.items():
            numbers = (cost.get(key) or 0.0 for key in ("seconds", "cpu_seconds", "peak_mb"))
            found.setdefault(stage, []).append((next(numbers), next(numbers), next(numbers)))
    files = sorted((benchmarks / _FETCHED).rglob("*.tsv"))
    found[_FETCHED] = [one for path in files for one in _rows(path)]
    return [_cost(stage, found[stage]) for stage in _MEASURED if found.get(stage)]


def _rows(path: Path) -> Iterator[_One]:
    """Yield wall seconds, processor seconds and MB; nothing if the file is truncated."""
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
