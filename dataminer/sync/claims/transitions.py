"""Which status may follow which: the one table. The database's triggers hold the same one.

:mod:`dataminer.sync.claims.stage_rows` says what a stage does to a row, this says what may happen
to a row at all. Tests hold the two, and the triggers of the migrations, against each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, VideoStatus
from dataminer.sync.claims.stage_rows import running_statuses

_V, _PV, _P = VideoStatus, ProjectVideoStatus, ProjectStatus

# From each status the others that may follow. Staying as it is is always allowed; a running row
# that stays in its status with a raised lease was taken over by another job of the same stage.
MAY_FOLLOW: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "videos": {
        _V.PENDING: (_V.DOWNLOADING,),
        _V.DOWNLOADING: (
            *(_V.DOWNLOADED, _V.FAILED),  # a result
            _V.EXTRACTED,  # its source is gone, and its frames stay
            _V.PENDING,  # given back
            _V.EXTRACTING,  # taken over
        ),
        _V.DOWNLOADED: (_V.DOWNLOADING, _V.EXTRACTING, _V.PENDING),
        _V.EXTRACTING: (_V.EXTRACTED, _V.FAILED, _V.DOWNLOADED, _V.DOWNLOADING),
        _V.EXTRACTED: (_V.DOWNLOADING, _V.EXTRACTING, _V.PENDING, _V.DOWNLOADED),
        _V.FAILED: (_V.DOWNLOADING, _V.EXTRACTING, _V.PENDING, _V.DOWNLOADED),
    },
    "project_videos": {
        _PV.PENDING: (_PV.FILTERING,),
        _PV.FILTERING: (_PV.FILTERED, _PV.FILTERED_EMPTY, _PV.FAILED, _PV.PENDING),
        _PV.FILTERED: (_PV.FILTERING, _PV.PENDING),
        _PV.FILTERED_EMPTY: (_PV.FILTERING, _PV.PENDING),
        _PV.FAILED: (_PV.FILTERING, _PV.PENDING),
    },
    # a project follows its videos' rows, forwards to DEDUP_READY and back; further on by a job only
    "projects": {
        _P.POPULATING: (_P.FILTERING, _P.DEDUP_READY),
        _P.FILTERING: (_P.POPULATING, _P.DEDUP_READY, _P.DEDUPING, _P.DETECTING),
        _P.DEDUP_READY: (_P.POPULATING, _P.FILTERING, _P.DEDUPING, _P.DETECTING),
        _P.DEDUPING: (_P.DETECT_READY, _P.DEDUP_READY, _P.DETECTING),
        _P.DETECT_READY: (
            *(_P.POPULATING, _P.FILTERING, _P.DEDUP_READY),
            *(_P.DEDUPING, _P.DETECTING),
        ),
        _P.DETECTING: (_P.COMPLETE, _P.DETECT_READY, _P.DEDUPING),
        _P.COMPLETE: (
            *(_P.POPULATING, _P.FILTERING, _P.DEDUP_READY, _P.DETECT_READY),
            *(_P.DEDUPING, _P.DETECTING),
        ),
    },
}


def allowed(table: str, before: str, after: str) -> bool:
    """Tell whether a row of ``table`` may go from one status to another, or stay.

    Parameters
    ----------
    table : str
        ``videos``, ``project_videos`` or ``projects``.
    before, after : str
        The two statuses.

    Returns
    -------
    bool
        False also for a status that the table does not have.
    """
    follows = MAY_FOLLOW[table]
    return before in follows and (after == before or after in follows[before])


def idle_before(table: str, after: str) -> tuple[str, ...]:
    """Return the statuses that nobody works in from which a row may go to ``after``.

    Parameters
    ----------
    table : str
        ``videos``, ``project_videos`` or ``projects``.
    after : str
        Where a row shall go: for instance back to ``PENDING``.
    """
    running = running_statuses(table)
    return tuple(
        before
        for before, follows in MAY_FOLLOW[table].items()
        if after in follows and before not in running
    )
