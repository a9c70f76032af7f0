"""What each run does by itself, at its start and at its end."""

from __future__ import annotations

import sys
from collections.abc import Collection

from dataminer.config import MonitorConfig
from dataminer.db import schema
from dataminer.files.links import clear_path
from dataminer.store.layout import Store
from dataminer.sync.claims import projects as project_rows
from dataminer.sync.pairing.settle import settle_pair
from dataminer.sync.recovery.dead_jobs import settle_ended
from dataminer.sync.recovery.stale_claims import recover_stale
from dataminer.text import tell


def bring_up_to_date(projects: Collection[str], settings: MonitorConfig, store: Store) -> None:
    """Release the claims of dead jobs, recount projects, and print repairs on stderr.

    Tables of an older version are upgraded first, and the database follows a store that has moved.
    Anything in the place of a project's folder that is no folder is removed.

    Parameters
    ----------
    projects : collection of str
        The projects of the run.
    settings : MonitorConfig
        The age at which a claim is stale.
    store : Store
        The store of the run.

    Raises
    ------
    NotAPair
        If the store and the database do not belong together.
    """
    schema.upgrade()
    for line in (settle_pair(store), *settle_ended(settings), *recover_stale(settings)):
        if line:
            tell(f"dataminer: {line}", sys.stderr)
    for folder in (folder for project in projects for folder in store.outputs(project)):
        clear_path(folder)  # before Snakemake makes them, or removes old outputs in them
    project_rows.refresh_named(projects)
