"""The state of the projects: one snapshot of the database, as a table or as data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, Literal

from psycopg2.extras import RealDictCursor

from dataminer import commands
from dataminer.db.connection import reading
from dataminer.errors import DataminerError, ErrorClass, advice, brief, kind_of, runnable
from dataminer.frames.notes import in_order, note_kind
from dataminer.monitor.console import console_of
from dataminer.provenance import fingerprints
from dataminer.sync.claims.stage_rows import FETCH_AGAIN
from dataminer.sync.rate_limit.statements import PAUSES
from dataminer.urls import MaskedUrl, masked_row

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dataminer.config import Config

_PROJECTS = """
SELECT p.name, p.project_stage AS stage, p.total_videos, p.videos_pending, p.videos_downloaded,
    p.videos_extracted, p.videos_failed, p.extracted_frames, p.filtered_frames, p.unique_frames,
    p.annotations, p.dedup_dir, p.detect_dir, p.error, p.updated_at
FROM projects p WHERE %(all)s OR p.name = ANY(%(names)s) ORDER BY p.name
"""

_FAILURES = """
SELECT p.name AS project, pv.video_id, v.url,
    coalesce(v.error_class, pv.error_class) AS error_class, coalesce(v.error, pv.error) AS error
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE (%(all)s OR p.name = ANY(%(names)s)) AND (
    pv.status = 'FAILED' OR v.status = 'FAILED' AND pv.status NOT IN ('FILTERED', 'FILTERED_EMPTY'))
ORDER BY greatest(v.updated_at, pv.updated_at) DESC, p.name, pv.video_id
"""

_WARNINGS = """
SELECT p.name AS project, v.video_id, v.warning
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE v.warning IS NOT NULL AND (%(all)s OR p.name = ANY(%(names)s))
ORDER BY p.name, v.video_id
"""

# of the frames that a project chose from; of the newest if it has not chosen yet
_NOTES = """
SELECT p.name AS project, n.kind, sum(n.count::numeric) AS count, count(*) AS videos
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id),
    jsonb_each_text(CASE
        WHEN pv.status IN ('FILTERED', 'FILTERED_EMPTY') THEN pv.source_notes
        WHEN v.status = 'EXTRACTED' THEN v.notes ELSE '{}' END) AS n (kind, count)
WHERE n.count::numeric > 0 AND (%(all)s OR p.name = ANY(%(names)s))
GROUP BY 1, 2 ORDER BY 1
"""

# temporary failures, which the next run or Snakemake's own retries try again
_TO_RETRY = """
SELECT p.name AS project, v.video_id, v.error_class, v.error, v.not_before
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE v.error IS NOT NULL AND v.status NOT IN ('FAILED', 'EXTRACTED')
    AND (%(all)s OR p.name = ANY(%(names)s))
UNION ALL
SELECT p.name, pv.video_id, pv.error_class, pv.error, pv.not_before
FROM project_videos pv JOIN projects p USING (project_id)
WHERE pv.error IS NOT NULL AND pv.status <> 'FAILED' AND (%(all)s OR p.name = ANY(%(names)s))
UNION ALL
SELECT p.name, NULL, p.error_class, p.error, p.not_before
FROM projects p WHERE p.error IS NOT NULL AND (%(all)s OR p.name = ANY(%(names)s))
ORDER BY 1, 2 NULLS FIRST
"""

_FINGERPRINTS = """
SELECT p.name AS project, m.stage, m.made, count(*) AS videos
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id),
    LATERAL (VALUES (1, 'download', v.downloaded_with),
        (2, 'extract', CASE WHEN v.error IS NULL THEN v.extracted_with END),
        (3, 'filter', pv.filtered_with)) AS m (place, stage, made)
WHERE (stage <> 'extract' OR coalesce(pv.filtered_from = v.extract_fingerprint, true))
    AND m.made IS NOT NULL AND v.status <> 'FAILED' AND p.name = ANY(%(names)s)
GROUP BY m.place, 1, 2, 3 ORDER BY 1, m.place
"""
# those that were filtered from other frames than the newest, or whose source is gone
_CHOSEN = """
SELECT p.name AS project, v.video_id, v.sha256, pv.filtered_from, v.extracted_with,
    pv.filtered_from = v.extract_fingerprint AS newest,
    CASE v.status WHEN 'EXTRACTED' THEN v.error END AS error
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE p.name = ANY(%(names)s) AND (
    pv.filtered_from <> v.extract_fingerprint OR v.status = 'EXTRACTED' AND v.error IS NOT NULL)
ORDER BY p.name, v.video_id
"""
_COMMAND = re.compile(r" (`(?:dataminer|(?:[^`\s]*/)?snakemake) )")
NO_PROJECTS = "No projects yet. Next: list videos in config/config.yaml, then `dataminer populate`"
_REMADE = {
    "download": "it stays; to fetch one again: `dataminer retry --download VIDEO`, all: `{run} -R"
    " download`",
    "extract": "`{run}` makes it again",
    "filter": "`{run}` makes it again",
}

_CLAIMS = """
SELECT status AS doing, video_id AS what, locked_by,
    extract(epoch FROM clock_timestamp() - heartbeat_at)::float AS heartbeat_age
FROM videos WHERE status IN ('DOWNLOADING', 'EXTRACTING')
UNION ALL
SELECT pv.status, p.name || '/' || pv.video_id, pv.locked_by,
    extract(epoch FROM clock_timestamp() - pv.heartbeat_at)::float
FROM project_videos pv JOIN projects p USING (project_id) WHERE pv.status = 'FILTERING'
UNION ALL
SELECT project_stage, name, locked_by,
    extract(epoch FROM clock_timestamp() - heartbeat_at)::float
FROM projects WHERE project_stage IN ('DEDUPING', 'DETECTING')
ORDER BY 1, 2
"""

_SHOWN = 10  # rows of failures and warnings in the table


@dataclass(frozen=True)
class Snapshot:
    """A consistent snapshot of the database.

    Parameters
    ----------
    projects : list of dict
        Name, stage and counters of each project, sorted by name.
    failures : list of dict
        Failed videos with their reason, the latest first.
    to_retry : list of dict
        Videos and projects (video_id None) whose last attempt failed temporarily.
    warnings : list of dict
        Videos with incomplete results, for example of a truncated file.
    claims : list of dict
        Current work: the job that does it, and the heartbeat's age in seconds.
    pauses : list of dict
        Sources that refuse requests: why, until when, and the seconds left.
    notes : list of dict
        Per project and kind, what was lost, mended or converted: ``kind``, ``count`` and
        ``videos``, with ``is_warning`` and a ``text`` that follows the count. Warnings first.
    other_settings : list of dict
        Per project and stage, how many videos were made with other settings than those of the
        configuration; only for its projects.
    """

    projects: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    to_retry: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    pauses: list[dict[str, Any]]
    notes: list[dict[str, Any]] = field(default_factory=list)
    other_settings: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the snapshot as JSON values; times in ISO 8601, UTC."""
        shown: dict[str, Any] = json_value(asdict(self))
        return shown


def json_value(value: Any) -> Any:
    """Return a value for JSON: links masked, times in ISO 8601."""
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, MaskedUrl):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


def snapshot(names: Iterable[str] = (), configs: Iterable[Config] = ()) -> Snapshot:
    """Read the state of projects, without writing anything.

    Parameters
    ----------
    names : iterable of str
        The projects; all if empty.
    configs : iterable of Config
        The settings to compare the videos of their projects with.

    Raises
    ------
    DataminerError
        If a named project does not exist.
    """
    wanted = list(names)
    values = {"names": wanted, "all": not wanted}
    parts = []
    with reading("status") as session, session.cursor(cursor_factory=RealDictCursor) as cursor:
        for query in (_PROJECTS, _FAILURES, _TO_RETRY, _WARNINGS, _CLAIMS, PAUSES, _NOTES):
            cursor.execute(query, values)
            parts.append([masked_row(row) for row in cursor.fetchall()])
        compared = [_made_otherwise(cursor, wanted, config) for config in configs]
    missing = sorted(set(wanted) - {project["name"] for project in parts[0]})
    if missing:
        raise DataminerError(
            f"there is no project {', '.join(missing)}", "`dataminer status` lists all projects"
        )
    *parts, notes = parts
    found = replace(Snapshot(*parts), notes=list(_in_words(notes)))
    for row in (*found.failures, *found.to_retry):
        if row["error"] and row["video_id"]:
            row["error"] = runnable(row["error"], row["video_id"], [row["project"]])
    others = [row for rows, _ in compared for row in rows]
    stay = [row for _, rows in compared for row in rows]
    return replace(found, other_settings=others, warnings=[*found.warnings, *stay])


def _in_words(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the notes of each project in the order in which they are shown, as sentences."""
    for _, listed in groupby(rows, key=itemgetter("project")):
        by_kind = {row["kind"]: row for row in listed}
        for name in in_order(by_kind):
            kind, count = note_kind(name), int(by_kind[name]["count"])  # a sum is a Decimal
            in_words = {"is_warning": kind.is_warning, "text": kind.words(count)}
            yield {**by_kind[name], "count": count, **in_words}


def _made_otherwise(
    cursor: Any, names: list[str], config: Config
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Count the videos that were made with other settings, with those that stay so and why."""
    from dataminer.planning.current_settings import CurrentSettings

    configured = [name for name in config.project_names if name in names or not names]
    cursor.execute(_FINGERPRINTS, {"names": configured})
    current, counts = CurrentSettings(config), Counter[tuple[str, str]]()
    for row in cursor.fetchall():
        if not current.match(row["stage"], row["made"]) and row["made"] != FETCH_AGAIN:
            counts[row["project"], row["stage"]] += row["videos"]
    cursor.execute(_CHOSEN, {"names": configured})
    stay = []
    for row in map(masked_row, cursor.fetchall()):
        own = fingerprints.of_extract(current.of_stage["extract"], row["sha256"])
        fits = row["newest"] and current.match("extract", row["extracted_with"])
        if fits or row["filtered_from"] == own:
            continue
        if row["error"]:
            text = f"keeps its frames of other settings: {row['error']}"
            stay.append({"project": row["project"], "video_id": row["video_id"], "warning": text})
        elif not row["newest"]:
            counts[row["project"], "extract"] += 1
    others = [
        {"project": project, "stage": stage, "videos": videos}
        for (project, stage), videos in sorted(counts.items())
    ]
    return others, stay


def print_status(names: Iterable[str], file: IO[str], configs: Iterable[Config] = ()) -> None:
    """Print the state of projects as a table."""
    console = console_of(file)
    if not console.is_terminal and console.width < 120:
        console = console_of(file, width=120)
    for part in _tables(snapshot(names, configs)):
        console.print(part)


def _tables(seen: Snapshot) -> list[RenderableType]:
    if not seen.projects:
        return [NO_PROJECTS]
    parts = [
        _project_table(seen),
        _pause_table(seen),
        _claim_table(seen),
        _class_table(seen),
        _reasons_table("Failed videos", seen.failures),
        _reasons_table("To be tried again", seen.to_retry),
        _warning_table(seen),
        _notes_table(seen),
        _other_settings_table(seen),
    ]
    return [part for part in parts if part is not None]


def _project_table(seen: Snapshot) -> RenderableType:
    from rich.table import Table

    table = Table(title="Projects", title_justify="left", header_style="bold")
    table.add_column("project")
    table.add_column("stage")
    counters = {
        "videos": "total_videos",
        "pending": "videos_pending",
        "downloaded": "videos_downloaded",
        "extracted": "videos_extracted",
        "failed": "videos_failed",
        "frames": "extracted_frames",
        "filtered": "filtered_frames",
        "unique": "unique_frames",
        "objects": "annotations",
    }
    for heading in counters:
        table.add_column(heading, justify="right")
    for project in seen.projects:
        numbers = [f"{project[column]:,}" for column in counters.values()]
        table.add_row(project["name"], project["stage"], *numbers)
    return table


def _claim_table(seen: Snapshot) -> RenderableType | None:
    rows = [
        [claim["doing"], claim["what"], claim["locked_by"], f"{claim['heartbeat_age']:.0f} s ago"]
        for claim in seen.claims
    ]
    return _table("Being worked on", ["status", "what", "by", "heartbeat"], rows)


def _pause_table(seen: Snapshot) -> RenderableType | None:
    rows = [[pause["source"], pause_end(pause), pause["reason"]] for pause in seen.pauses]
    return _table("Sources that pause", ["source", "until", "reason"], rows)


def pause_end(pause: dict[str, Any]) -> str:
    """Return until when a source pauses, and what follows."""
    if pause["seconds_left"] > 0:
        return f"{pause['open_until']:%Y-%m-%d %H:%M:%S} UTC, then one job goes first"
    return "one job goes first"


def _class_table(seen: Snapshot) -> RenderableType | None:
    """Count the failures of each class, the most frequent first, with its next step."""
    shown = [
        [known, kind_of(known), f"{count:,}", step]
        for error_class, count, step in by_class(seen.failures, seen.to_retry)
        for known in ErrorClass
        if known == error_class
    ]
    headings = ["class", "kind", "videos", "next step"]
    return _table("Failures by class", headings, shown, limit=None)


def unbroken(text: str) -> str:
    """Return a text with each command on a separate line, so that it can be copied."""
    return _COMMAND.sub(r"\n\1", text)


def by_class(
    failures: Iterable[dict[str, Any]], to_retry: Iterable[dict[str, Any]]
) -> list[tuple[str, int, str]]:
    """Return the classes of failures, the most frequent first: number of videos, next step.

    Parameters
    ----------
    failures, to_retry : iterable of dict
        Those of a snapshot.
    """
    videos, projects = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    failures = list(failures)
    for row in (*failures, *to_retry):
        if row["video_id"]:
            videos[row["error_class"] or ""].add(row["video_id"])
            projects[row["error_class"] or ""].add(row["project"])
    failed = {row["error_class"] for row in failures}

    def step(name: str) -> str:
        ids, of = sorted(videos[name]), sorted(projects[name])
        return advice(name, f"--class {name}", of, failed=name in failed, videos=ids)

    order = sorted(videos, key=lambda name: (-len(videos[name]), name))
    return [(name, len(videos[name]), step(name)) for name in order]


def _reasons_table(title: str, failures: list[dict[str, Any]]) -> RenderableType | None:
    columns = ("project", "video_id", "error_class")
    rows = [
        [*(failure[column] for column in columns), brief(failure["error"] or "")]
        for failure in failures
    ]
    return _table(title, ["project", "video", "class", "reason and next step"], rows)


def _warning_table(seen: Snapshot) -> RenderableType | None:
    rows = [[row["project"], row["video_id"], brief(row["warning"])] for row in seen.warnings]
    return _table("Videos with a warning", ["project", "video", "warning"], rows)


def _notes_table(seen: Snapshot) -> RenderableType | None:
    rows = [
        [row["project"], f"{row['count']:,}", row["text"], f"{row['videos']:,}"]
        for row in seen.notes
    ]
    title = "Lost, mended or converted while frames were extracted"
    headings = ["project", "number", "what", "videos"]
    return _table(title, headings, rows, limit=None, numeric=("number", "videos"))


def _remade(row: dict[str, Any]) -> str:
    return _REMADE[row["stage"]].format(run=commands.snakemake([row["project"]]))


def _other_settings_table(seen: Snapshot) -> RenderableType | None:
    rows = [
        [row["project"], row["stage"], f"{row['videos']:,}", _remade(row)]
        for row in seen.other_settings
    ]
    headings = ["project", "stage", "videos", "how they are updated"]
    return _table("Made with other settings than those of the configuration", headings, rows)


def _table(
    title: str,
    headings: list[str],
    rows: list[list[str]],
    limit: int | None = _SHOWN,
    numeric: tuple[str, ...] = (),
) -> RenderableType | None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return None
    cut = limit is not None and len(rows) > limit
    more = f" (the latest {limit} of {len(rows)}; --json shows all)" if cut else ""
    table = Table(title=title + more, title_justify="left", header_style="bold")
    for heading in headings:
        justify: Literal["left", "right"] = "right" if heading in numeric else "left"
        table.add_column(heading, overflow="fold", justify=justify)
    for row in rows[:limit]:
        # Text: untrusted text is shown as it is, never parsed as markup
        table.add_row(*(Text(unbroken(cell or "")) for cell in row))
    return table
