"""What each stage does to a row; :mod:`.transitions` lists which status may follow which."""

from __future__ import annotations

from dataclasses import dataclass

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, VideoStatus


@dataclass(frozen=True)
class StageRows:
    """A stage's moves on its table.

    Parameters
    ----------
    name : str
        The stage, named as its Snakemake rule.
    table, status_column : str
        The table of its rows, and the column with their progress.
    idle : tuple of str
        The statuses from which a row may be claimed. Finished ones are among them: Snakemake
        decides what must be made again.
    running : str
        The status of a claimed row.
    released : str
        The status of a row whose claim was given back without a result.
    done : tuple of str
        The statuses that a result can lead to.
    past : tuple of str
        The statuses of rows that have this stage's result, or more.
    made : str or None
        The column with what this stage's result was made from or with, if there is one.
    shared : bool
        Whether a row may have several results, each in a folder of its own: then any of them
        counts, even if the row names another.
    """

    name: str
    table: str
    status_column: str
    idle: tuple[str, ...]
    running: str
    released: str
    done: tuple[str, ...]
    past: tuple[str, ...]
    made: str | None = None
    shared: bool = False


FETCH_AGAIN = "again"
"""The value of ``downloaded_with`` for a video that is to be fetched again in any case."""

_V, _PV, _P = VideoStatus, ProjectVideoStatus, ProjectStatus

DOWNLOAD = StageRows(
    name="download",
    table="videos",
    status_column="status",
    idle=(_V.PENDING, _V.DOWNLOADED, _V.EXTRACTED, _V.FAILED),
    running=_V.DOWNLOADING,
    released=_V.PENDING,
    done=(
        _V.DOWNLOADED,
        _V.EXTRACTED,
        _V.FAILED,
    ),  # EXTRACTED: its source is gone, and its frames stay
    past=(_V.DOWNLOADED, _V.EXTRACTING, _V.EXTRACTED),
    made="downloaded_with",
)
EXTRACT = StageRows(
    name="extract",
    table="videos",
    status_column="status",
    idle=(_V.DOWNLOADED, _V.EXTRACTED, _V.FAILED),
    running=_V.EXTRACTING,
    released=_V.DOWNLOADED,
    done=(_V.EXTRACTED, _V.FAILED),
    past=(_V.EXTRACTED,),
    made="extract_fingerprint",
    shared=True,
)
FILTER = StageRows(
    name="filter",
    table="project_videos",
    status_column="status",
    idle=(_PV.PENDING, _PV.FILTERED, _PV.FILTERED_EMPTY, _PV.FAILED),
    running=_PV.FILTERING,
    released=_PV.PENDING,
    done=(_PV.FILTERED, _PV.FILTERED_EMPTY, _PV.FAILED),
    past=(_PV.FILTERED, _PV.FILTERED_EMPTY),
    made="filter_fingerprint",
)
DEDUP = StageRows(
    name="dedup",
    table="projects",
    status_column="project_stage",
    idle=(_P.FILTERING, _P.DEDUP_READY, _P.DETECT_READY, _P.COMPLETE),
    running=_P.DEDUPING,
    released=_P.DEDUP_READY,
    done=(_P.DETECT_READY,),
    past=(_P.DETECT_READY, _P.DETECTING, _P.COMPLETE),
    made="dedup_fingerprint",
)
DETECT = StageRows(
    name="detect",
    table="projects",
    status_column="project_stage",
    # a video that was added meanwhile takes the project back to FILTERING; the earlier unique
    # frames can be annotated all the same
    idle=(_P.FILTERING, _P.DEDUP_READY, _P.DETECT_READY, _P.COMPLETE),
    running=_P.DETECTING,
    released=_P.DETECT_READY,
    done=(_P.COMPLETE,),
    past=(_P.COMPLETE,),
    made="detect_fingerprint",
)
# the columns that identify a row of each table
KEYS = {
    "videos": ("video_id",),
    "project_videos": ("project_id", "video_id"),
    "projects": ("project_id",),
}
STAGES = {stage.name: stage for stage in (DOWNLOAD, EXTRACT, FILTER, DEDUP, DETECT)}


def running_statuses(table: str) -> tuple[str, ...]:
    """Return the statuses in which a row of ``table`` is held by somebody."""
    return tuple(stage.running for stage in STAGES.values() if stage.table == table)
