"""What is left to do: decided from rows, and from the marks in files if a row does not know.

One function, :func:`plan`, for any number of videos and in any folder. Snakemake is handed what it
finds: nothing else decides what is up to date.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dataminer.config import Config
from dataminer.planning import rows
from dataminer.planning.datasets import Datasets
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
    """Decide what is left of projects.

    A stage of a video is done when its row says so, its result was made by this version with these
    settings and from the input that there is now, and its files stand. The files of earlier stages
    may be gone as long as nothing needs them.

    Parameters
    ----------
    config : Config
        The settings.
    projects : iterable of str
        By name.
    upto : str
        The last stage that is wanted, one of :data:`UPTO`.
    forced : collection of str
        Stages whose results are made anew, whatever they are.

    Returns
    -------
    Plan
        The verdicts. Nothing was written.

    Raises
    ------
    DataminerError
        When a project has no videos, or the database no tables yet.
    """
    known, anew = rows.load(list(dict.fromkeys(projects))), frozenset(forced)
    videos = Videos(config, known, upto, anew)
    videos.judge()
    return Plan(
        videos.stages,
        videos.filters,
        Datasets(config, known, videos, upto, anew).judge(),
        videos.lengths(),
        videos.frames(),
        known.suspects,
        videos.second(),
    )
