"""What each run does of itself, at its start and at its end."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from dataminer.config import MonitorConfig
from dataminer.db import schema
from dataminer.sync import projects as project_rows
from dataminer.sync.recover import recover_stale


def bring_up_to_date(projects: Iterable[str], settings: MonitorConfig) -> None:
    """Give back what dead jobs held, and recount; say on stderr what was mended.

    Tables of an older version are brought up to date first.

    Parameters
    ----------
    projects : iterable of str
        The projects of the run.
    settings : MonitorConfig
        When a claim is stale.
    """
    schema.upgrade()
    for recovered in recover_stale(settings):
        print(f"dataminer: {recovered}", file=sys.stderr)
    project_rows.refresh_named(projects)
