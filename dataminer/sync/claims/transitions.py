"""Which status may follow which, as the triggers of the database enforce it.

:mod:`dataminer.sync.claims.stage_rows` defines what a stage does to a row, this table what may
happen to a row at all. No code reads it at run time: tests compare it with the stages and with the
triggers, so that a migration that changes one of them has to change all.
"""

from __future__ import annotations

from collections.abc import Mapping

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, VideoStatus
from dataminer.sync.claims.stage_rows import running_statuses

_V, _PV, _P = VideoStatus, ProjectVideoStatus, ProjectStatus

# For each status, the others that may follow. A row may always keep its status; a running row that
# keeps it with a raised lease was taken over by another job of the same stage.
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
    # a project follows its videos' rows up to DEDUP_READY and back; only jobs move it further
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
    """Return the statuses without a holder from which a row may go to ``after``.

    Parameters
    ----------
    table : str
        ``videos``, ``project_videos`` or ``projects``.
    after : str
        The next status, for instance ``PENDING``.
    """
    running = running_statuses(table)
    return tuple(
        before
        for before, follows in MAY_FOLLOW[table].items()
        if after in follows and before not in running
    )
