"""What each stage cost, from the benchmark files that Snakemake leaves."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_OWN = "report"  # else the page would tell how long it took to draw the one before it
STAGES = ("weights", "download", "extract", "filter", "dedup", "detect")


@dataclass(frozen=True)
class Cost:
    """What the jobs of one rule took, each job's last run.

    Parameters
    ----------
    rule : str
        The rule.
    jobs : int
        How many.
    seconds : float
        Wall time of all jobs, one after the other.
    slowest : float
        Of the slowest job, in seconds.
    cpu_seconds : float
        Time on processors.
    peak_mb : float
        Greatest memory of one job, in MB.
    """

    rule: str
    jobs: int
    seconds: float
    slowest: float
    cpu_seconds: float
    peak_mb: float


def costs(benchmarks: Path, project: str, video_ids: Iterable[str]) -> list[Cost]:
    """Add up what the jobs of a project took, its videos' shared ones included.

    Parameters
    ----------
    benchmarks : Path
        The folder with one folder a rule: ``RULE/PROJECT.tsv``, ``RULE/PROJECT/….tsv`` or
        ``RULE/VIDEO.tsv``.
    project : str
        The project.
    video_ids : iterable of str
        Its videos.

    Returns
    -------
    list of Cost
        By rule, in the order of the stages; rules that this module does not know come last, and
        the one that draws the report is left out.
    """
    videos = set(video_ids)
    folders = sorted(path for path in benchmarks.glob("*") if path.is_dir() and path.name != _OWN)
    folders.sort(key=lambda path: STAGES.index(path.name) if path.name in STAGES else len(STAGES))
    found = (_cost(folder.name, list(_jobs(folder, project, videos))) for folder in folders)
    return [cost for cost in found if cost]


def _jobs(folder: Path, project: str, videos: set[str]) -> Iterator[tuple[float, float, float]]:
    ours = {project, *videos} if folder.name != "weights" else None
    for path in sorted(folder.rglob("*.tsv")):
        place = path.relative_to(folder).with_suffix("").parts[0]
        if ours is None or place in ours:
            yield from _rows(path)


def _rows(path: Path) -> Iterator[tuple[float, float, float]]:
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
    except ValueError:  # "NA" where a job was too short to be measured
        return 0.0


def _cost(rule: str, jobs: Sequence[tuple[float, float, float]]) -> Cost | None:
    if not jobs:
        return None
    wall, cpu, memory = zip(*jobs, strict=True)
    return Cost(rule, len(jobs), sum(wall), max(wall), sum(cpu), max(memory))
