"""Lets the next run make dedup or detect of a project again."""

from __future__ import annotations

from pathlib import Path

from dataminer.db.enums import ProjectStatus
from dataminer.errors import DataminerError
from dataminer.files.links import is_folder
from dataminer.files.reading import list_names
from dataminer.frames.table import CLUSTERS_FILE
from dataminer.store.layout import Store
from dataminer.store.trash import PROJECT_NAME, checked
from dataminer.sync.claims import projects, stage_rows
from dataminer.sync.repair.evidence import Evidence, StoreInspector, existing
from dataminer.sync.repair.row_repair import revert_row
from dataminer.sync.repair.snapshot import read_rows


def outputs_to_remove(
    store: Store, project: str, stage: str, *, rebuild: bool = False
) -> tuple[Path, ...]:
    """Return the outputs without which the next run makes ``dedup`` or ``detect`` again.

    With ``rebuild``, they include the table of the frames that dedup kept before.
    """
    checked(project, PROJECT_NAME)
    inputs = {
        "dedup": [store.dedup(project) / CLUSTERS_FILE] if rebuild else [],
        # boxes of shards would be reused, and no model would run
        "detect": [store.detect_shards(project)],
    }
    return existing(*StoreInspector(store).outputs(project, stage), *inputs[stage])


def redo(store: Store, project: str, stage: str, *, rebuild: bool = False) -> None:
    """Let the next ``snakemake`` make ``dedup`` or ``detect`` of a project again.

    Parameters
    ----------
    store : Store
        The store.
    project : str
        The project.
    stage : {"dedup", "detect"}
        The stage; detect follows dedup.
    rebuild : bool
        Let dedup compare all frames again, including those that it kept before.

    Raises
    ------
    DataminerError
        If there is no such project, or it is being worked on.
    """
    remove = tuple(
        file
        for path in outputs_to_remove(store, project, stage, rebuild=rebuild)
        for file in ([path / n for n in sorted(list_names(path))] if is_folder(path) else [path])
    )
    key = {"project_id": projects.project_id_of(project)}
    row = read_rows([project]).projects[project]
    ready, columns = StoreInspector.before(stage)
    reverts = row.status in (ProjectStatus.COMPLETE, ProjectStatus.DETECT_READY)
    if reverts and (row.status, stage) != (ProjectStatus.DETECT_READY, "detect"):
        evidence = Evidence(ready, remove, columns)
    else:
        evidence = Evidence(row.status, remove)
    running = row.status in stage_rows.running_statuses("projects")
    before = (row.status, row.lease)
    if running or not revert_row(stage_rows.DEDUP, key, before, evidence, lambda: evidence):
        raise DataminerError(
            f"project {project} is being worked on: {row.status}",
            "wait for the run to end; the next run gives back what a dead one held",
        )
