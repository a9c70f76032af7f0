"""A project's report: what the database says of it, and the page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg2.extras import RealDictCursor

from dataminer.config import Config
from dataminer.db.connection import reading
from dataminer.errors import DataminerError, runnable
from dataminer.provenance import fingerprints
from dataminer.report.data.facts import ProjectFacts, VideoFacts
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
_SECTIONS = ("extract", "filter", "dedup", "detect", "download")


def result_settings(config: Config) -> dict[str, dict[str, Any]]:
    """Return, by section, the settings that decide what comes out: those that a report shows.

    Proxies, cookies and the like are not among them.
    """
    return {name: getattr(config, name).result_settings() for name in _SECTIONS}


def facts(project: str) -> ProjectFacts:
    """Ask the database what it knows of a project; one query, nothing is written.

    Raises
    ------
    DataminerError
        When there is no such project.
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
    ours = ("project_stage", "project_costs")
    told = [{k: v for k, v in row.items() if k not in ours} for row in rows if row["video_id"]]
    for row in told:
        row["error"] = runnable(row["error"] or "", row["video_id"], [project]) or None
    return ProjectFacts(project, stage, tuple(VideoFacts(**row) for row in told), costs)


def report(
    config: Config, project: str, out: Path, tell: Callable[[str], None] = log.warning
) -> int:
    """Draw a project's report, of as much as there is of it.

    Parameters
    ----------
    config : Config
        The settings; those that decide what comes out are shown, and no other.
    project : str
        The project.
    out : Path
        The page to write.
    tell : callable
        Told of each file that is damaged, and left out.

    Returns
    -------
    int
        Its size in bytes.

    Raises
    ------
    DataminerError
        When there is no such project, or the database cannot be asked.
    """
    from dataminer.report.html.page import write_report  # the Snakefile needs only the settings

    settings, store = result_settings(config), Store(config.store_path)
    annotated = results.read_detect(store.detect(project))
    made = fingerprints.of_report(settings, annotated.fingerprint if annotated else None)
    return write_report(store, facts(project), out, settings=settings, fingerprint=made, tell=tell)
