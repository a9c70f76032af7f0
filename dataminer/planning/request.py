"""What a plan is asked for, and what all parts of it share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dataminer.config import Config
from dataminer.planning.current_settings import CurrentSettings
from dataminer.planning.records import Records
from dataminer.planning.verdicts import UPTO
from dataminer.store.layout import Store


@dataclass(frozen=True)
class PlanRequest:
    """What to plan.

    Parameters
    ----------
    config : Config
        The settings.
    records : Records
        The rows of the projects.
    upto : str
        The last stage that is wanted.
    forced : set of str
        Stages whose results are made again.
    """

    config: Config
    records: Records
    upto: str
    forced: frozenset[str]

    def wants(self, stage: str) -> bool:
        """Return whether a stage is wanted."""
        return UPTO.index(stage) <= UPTO.index(self.upto)

    @cached_property
    def store(self) -> Store:
        """The store."""
        return Store(self.config.store_path)

    @cached_property
    def current(self) -> CurrentSettings:
        """The settings by stage."""
        return CurrentSettings(self.config)
