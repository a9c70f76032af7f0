"""Decides what is left to do, from rows and, if a row lags behind, from files.

:func:`plan` is the only place that decides what is up to date. It takes any number of videos, runs
in any folder, and Snakemake gets its result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dataminer.config import Config
from dataminer.planning.datasets import Datasets
from dataminer.planning.records import read_records
from dataminer.planning.request import PlanRequest
from dataminer.planning.verdicts import UPTO, Plan, Verdict, VerdictState
from dataminer.planning.videos import Videos

__all__ = ["UPTO", "Plan", "Verdict", "VerdictState", "plan"]


def plan(
    config: Config,
    projects: Iterable[str],
    *,
    upto: str = "report",
    forced: Collection[str] = (),
) -> Plan:
    """Decide what is left to do for projects; write nothing.

    A stage of a video is done if its row says so, its result was made by this version with these
    settings from the current input, and its files exist, unless nothing needs them any more.

    Parameters
    ----------
    config : Config
        The settings.
    projects : iterable of str
        Their names.
    upto : str
        The last stage that is wanted, one of :data:`UPTO`.
    forced : collection of str
        Stages whose results are made again.

    Raises
    ------
    DataminerError
        If a project has no videos, or the database has no tables yet.
    """
    records = read_records(list(dict.fromkeys(projects)))
    request = PlanRequest(config, records, upto, frozenset(forced))
    videos = Videos(request)
    return Plan(
        videos.stages,
        videos.filters,
        Datasets(request, videos).verdicts(),
        videos.lengths(),
        videos.recipes(),
        records.suspects,
        videos.second_frames(),
    )
