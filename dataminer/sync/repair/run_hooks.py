"""What each run does of itself, at its start and at its end."""

from __future__ import annotations

import sys
from collections.abc import Collection

from dataminer.config import MonitorConfig
from dataminer.db import schema
from dataminer.files.links import clear_path
from dataminer.store.layout import Store
from dataminer.sync.claims import projects as project_rows
from dataminer.sync.pairing import pairing
from dataminer.sync.recovery.dead_jobs import settle_ended
from dataminer.sync.recovery.stale_claims import recover_stale
from dataminer.text import tell


def bring_up_to_date(projects: Collection[str], settings: MonitorConfig, store: Store) -> None:
    """Give back what dead jobs held, and recount; say on stderr what was mended.

    Tables of an older version are brought up to date first, and the database follows a store that
    has moved. What lies in the place of a project's folder and is none is removed.

    Parameters
    ----------
    projects : collection of str
        The projects of the run.
    settings : MonitorConfig
        When a claim is stale.
    store : Store
        The store of the run.

    Raises
    ------
    NotAPair
        When the store and the database do not belong together.
    """
    schema.upgrade()
    for line in (pairing.settle(store), *settle_ended(settings), *recover_stale(settings)):
        if line:
            tell(f"dataminer: {line}", sys.stderr)
    for folder in (folder for project in projects for folder in store.outputs(project)):
        clear_path(folder)  # before Snakemake makes them, and removes old outputs in them
    project_rows.refresh_named(projects)
