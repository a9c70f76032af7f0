"""Pages of videos, with the state of each one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dataminer.monitor.story import query_snapshot

PAGE = 20
STATES = ("all", "waiting", "working", "done", "failed")

_VIDEOS = """
WITH listed AS (
    SELECT p.name AS project, v.video_id, v.title, v.status, pv.status AS member_status,
        v.frame_count, pv.passed_frames, coalesce(v.error_class, pv.error_class) AS error_class,
        greatest(v.updated_at, pv.updated_at) AS updated_at,
        CASE
            WHEN pv.status IN ('FILTERED', 'FILTERED_EMPTY') AND v.status = 'FAILED' THEN 'done'
            WHEN v.status = 'FAILED' OR pv.status = 'FAILED' THEN 'failed'
            WHEN v.status IN ('DOWNLOADING', 'EXTRACTING') OR pv.status = 'FILTERING'
                THEN 'working'
            WHEN pv.status IN ('FILTERED', 'FILTERED_EMPTY') THEN 'done'
            ELSE 'waiting'
        END AS state
    FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
    WHERE (%(project)s = '' OR p.name = %(project)s) AND (%(all)s OR p.name = ANY(%(names)s))
)
SELECT *, count(*) OVER () AS total FROM listed
WHERE (%(state)s = 'all' OR state = %(state)s)
    AND (%(text)s = ''
        OR strpos(lower(video_id || ' ' || coalesce(title, '')), lower(%(text)s)) > 0)
ORDER BY updated_at DESC, project, video_id LIMIT %(most)s OFFSET %(start)s
"""


@dataclass(frozen=True)
class VideoQuery:
    """Which videos to list.

    Parameters
    ----------
    project : str
        Only videos of this project; of all projects if empty.
    state : str
        One of ``STATES``.
    text : str
        Text that the id or title must contain; case is ignored.
    page : int
        The page number, from 0.
    """

    project: str = ""
    state: str = "all"
    text: str = ""
    page: int = 0


def videos(wanted: VideoQuery, names: list[str]) -> dict[str, Any]:
    """Return one page of videos, the last changed first, without writing anything.

    Parameters
    ----------
    wanted : VideoQuery
        The videos and the page.
    names : list of str
        The projects that may be shown; all if empty.

    Returns
    -------
    dict
        ``rows``, ``total``, ``page`` and ``pages``.
    """
    values = {
        "project": wanted.project,
        "state": wanted.state,
        "text": wanted.text,
        "names": names,
        "all": not names,
        "most": PAGE,
        "start": wanted.page * PAGE,
    }
    (rows,) = query_snapshot([(_VIDEOS, values)], name="monitor")
    total = rows[0]["total"] if rows else 0
    shown = [
        {key: value for key, value in row.items() if key not in ("total", "updated_at")}
        for row in rows
    ]
    return {"rows": shown, "total": total, "page": wanted.page, "pages": max(-(-total // PAGE), 1)}
