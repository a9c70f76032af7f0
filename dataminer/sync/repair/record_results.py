"""Records results that files show and rows lack, as a plan has found."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_batch

from dataminer import planning
from dataminer.config import Config
from dataminer.db.connection import transaction
from dataminer.planning import Plan
from dataminer.provenance import recipes
from dataminer.store.layout import Store
from dataminer.sync.claims.execution import PATIENCE, adapt
from dataminer.sync.jobs import candidate_frames, results
from dataminer.sync.repair.reconcile import reconcile

log = logging.getLogger(__name__)

# ---- statements: values bound. Rows that are claimed, or were made again, are left alone. --------

_FRAMES = """
UPDATE videos SET
    extract_fingerprint = %(made)s, extracted_with = coalesce(extracted_with, %(with)s),
    sha256 = coalesce(sha256, %(sha256)s), notes = %(notes)s,
    frames_dir = CASE status WHEN 'EXTRACTED' THEN %(folder)s ELSE frames_dir END
WHERE video_id = %(video_id)s AND coalesce(extract_fingerprint, %(made)s) = %(made)s
    AND locked_by IS NULL AND (status = 'EXTRACTED' OR status = 'FAILED' AND extracted_with <> '')
"""

_FILTERED = """
UPDATE project_videos pv SET filtered_from = %(frames)s, filter_fingerprint = %(made)s,
    source_frames = %(count)s, source_notes = %(notes)s,
    filtered_with = coalesce(filtered_with, %(with)s)
FROM projects p
WHERE p.project_id = pv.project_id AND p.name = %(project)s AND pv.video_id = %(video_id)s
    AND pv.filtered_from IS NULL AND pv.locked_by IS NULL
    AND pv.status IN ('FILTERED', 'FILTERED_EMPTY', 'FAILED')
"""

_UNIQUE = """
UPDATE projects SET dedup_fingerprint = %(made)s
WHERE name = %(project)s AND locked_by IS NULL AND dedup_dir IS NOT NULL
"""

_ANNOTATED = """
UPDATE projects SET detect_fingerprint = %(made)s
WHERE name = %(project)s AND locked_by IS NULL AND detect_dir IS NOT NULL
"""


def record_results(config: Config) -> None:
    """Record the results of the projects of a configuration that whole files show.

    Parameters
    ----------
    config : Config
        The settings. Stages make files of other settings again.
    """
    projects, store = config.project_names, Store(config.store_path)
    older = recipes.older_videos(store)
    for video_id in older:
        candidate_frames.adopt_old_layout(store, video_id)
    report = reconcile(store, projects, config.monitor, adopt_only=True)
    for line in [*map(str, report.repairs), *report.notes]:
        log.info("%s", line)
    plan = planning.plan(config, projects)
    unrecorded = [v for v, verdict in plan.videos["extract"].items() if verdict.adopt]

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            execute_batch(cursor, _FRAMES, list(_frames(store, {*older, *unrecorded})))
            execute_batch(cursor, _FILTERED, list(_filtered(store, plan)))
            execute_batch(cursor, _UNIQUE, list(_unique(store, plan)))
            execute_batch(cursor, _ANNOTATED, list(_annotated(store, plan)))

    transaction(work, patience=PATIENCE, name="adopt")


def _frames(store: Store, videos: Iterable[str]) -> Iterator[dict[str, Any]]:
    for video_id in videos:
        for recipe in recipes.of_video(store, video_id)[:1]:
            meta = results.read_frames_meta(store.recipe(video_id, recipe)) or {}
            info = results.read_info_or_none(store.video(video_id)) or {}
            yield {
                "video_id": video_id,
                "made": recipe,
                "with": meta.get("made_with"),
                "sha256": info.get("sha256"),
                "notes": adapt(meta.get("notes", {})),
                "folder": str(store.recipe(video_id, recipe)),
            }


def _filtered(store: Store, plan: Plan) -> Iterator[dict[str, Any]]:
    for project, verdicts in plan.members.items():
        for video_id, verdict in verdicts.items():
            if verdict.adopt:
                meta = results.read_frames_meta(store.filtered(project, video_id)) or {}
                yield {
                    "project": project,
                    "video_id": video_id,
                    "frames": next(iter(plan.frames.get(video_id, ())), None),
                    "made": meta.get("fingerprint"),
                    "with": meta.get("made_with"),
                    "count": meta.get("frames"),
                    "notes": adapt(meta.get("notes", {})),
                }


def _unique(store: Store, plan: Plan) -> Iterator[dict[str, Any]]:
    for project, stages in plan.projects.items():
        if stages["dedup"].adopt:
            meta = results.read_frames_meta(store.dedup(project)) or {}
            yield {"project": project, "made": meta.get("fingerprint")}


def _annotated(store: Store, plan: Plan) -> Iterator[dict[str, Any]]:
    for project, stages in plan.projects.items():
        outcome = results.read_detect(store.detect(project)) if stages["detect"].adopt else None
        if outcome:
            yield {"project": project, "made": outcome.fingerprint}
