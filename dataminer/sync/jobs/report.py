"""A project's report, from its rows and files to the page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from psycopg2.extras import RealDictCursor

from dataminer.config import Config
from dataminer.db.connection import reading
from dataminer.errors import DataminerError, runnable
from dataminer.provenance import fingerprints
from dataminer.report.data.facts import ProjectFacts, VideoFacts
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.store.layout import Store
from dataminer.sync.jobs import results
from dataminer.urls import public_row

log = logging.getLogger("dataminer")

_FACTS = """
SELECT p.project_stage, v.video_id, v.url, v.title, v.status, pv.status AS member_status,
    coalesce(v.error_class, pv.error_class) AS error_class, coalesce(v.error, pv.error) AS error,
    v.warning, v.costs || pv.costs AS costs, p.costs AS project_costs
FROM projects p LEFT JOIN project_videos pv USING (project_id) LEFT JOIN videos v USING (video_id)
WHERE p.name = %(project)s ORDER BY v.video_id COLLATE "C"
"""


def read_facts(project: str) -> ProjectFacts:
    """Read what the database says about a project, in one query; write nothing.

    Raises
    ------
    DataminerError
        If there is no such project.
    """
    name = f"report {project}"
    with reading(name) as session, session.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(_FACTS, {"project": project})
        rows = [public_row(row) for row in cursor.fetchall()]
    if not rows:
        raise DataminerError(
            f"there is no project {project}", "`dataminer status` lists all projects"
        )
    stage = str(rows[0]["project_stage"])
    costs = rows[0]["project_costs"]
    of_project = ("project_stage", "project_costs")
    videos = [
        {name: value for name, value in row.items() if name not in of_project}
        for row in rows
        if row["video_id"]
    ]
    for video in videos:
        video["error"] = runnable(video["error"] or "", video["video_id"], [project]) or None
    return ProjectFacts(project, stage, tuple(VideoFacts(**video) for video in videos), costs)


def report_project(
    config: Config, project: str, out: Path, warn: Callable[[str], None] = log.warning
) -> int:
    """Write a project's report with all that exists so far; return its size in bytes.

    Parameters
    ----------
    config : Config
        The settings; only those that affect results are shown.
    project : str
        The project.
    out : Path
        The page to write.
    warn : callable
        Called with a message for each damaged file, which is left out.

    Raises
    ------
    DataminerError
        If there is no such project, or the database does not answer.
    """
    from dataminer.report.html.page import write_report

    settings, store = fingerprints.result_settings(config), Store(config.store_path)
    annotated = results.read_detect(store.detect(project))
    made = fingerprints.of_report(settings, annotated.fingerprint if annotated else None)
    facts = read_facts(project)
    return write_report(
        store,
        facts,
        out,
        settings=settings,
        fingerprint=made,
        references=_references(config, warn),
        tell=warn,
    )


def _references(config: Config, warn: Callable[[str], None]) -> ReferencePictures | None:
    """Return the pictures that frames were compared with; the report does without missing ones."""
    try:
        return ReferencePictures.of(config.dedup)
    except (DataminerError, OSError) as error:
        warn(f"reference pictures are not shown: {error}")
        return None
