"""The whole story of one video: its source, its state, the reason, and the next step."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg2.extras import RealDictCursor

from dataminer.db.connection import reading
from dataminer.errors import (
    DamagedFile,
    DataminerError,
    advice,
    runnable,
)
from dataminer.files.links import ABSENT_ERRORS, is_file, refuse_links
from dataminer.frames import notes
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_table
from dataminer.monitor.status import json_value
from dataminer.net.rate_limit import quota_of
from dataminer.provenance import recipes
from dataminer.stages.dedup.references.table import read_excluded
from dataminer.store.documents import read_info
from dataminer.store.layout import INFO_FILE, Store
from dataminer.sync.batches.old_runs import logs_of
from dataminer.sync.jobs import results
from dataminer.sync.rate_limit.statements import PAUSES
from dataminer.urls import mask_text, masked_row

_VIDEO = """
SELECT v.*, extract(epoch FROM clock_timestamp() - heartbeat_at)::float AS heartbeat_age
FROM videos v WHERE video_id = %(video_id)s
"""

_PAIRS = """
SELECT p.name AS project, p.project_stage, pv.*,
    extract(epoch FROM clock_timestamp() - pv.heartbeat_at)::float AS heartbeat_age
FROM project_videos pv JOIN projects p USING (project_id)
WHERE pv.video_id = %(video_id)s ORDER BY p.name
"""

_BEGINNING = """
SELECT video_id FROM videos WHERE video_id = %(text)s OR starts_with(video_id, %(text)s)
ORDER BY video_id <> %(text)s, video_id LIMIT 11
"""

_ALL = "SELECT video_id FROM videos"

_LAST_LINES = 12
_LOG_TAIL = 65536  # bytes that are read from the end of a log


@dataclass(frozen=True)
class Log:
    """A log of a rule for the video.

    Parameters
    ----------
    path : str
        The file.
    written : datetime
        When it was last written to.
    failed : bool
        Whether its end reports an error.
    last_lines : list of str
        Its last lines.
    """

    path: str
    written: datetime
    failed: bool
    last_lines: list[str]


@dataclass(frozen=True)
class VideoStory:
    """Everything known about one video.

    Parameters
    ----------
    video : dict
        Its row, and the heartbeat's age in seconds.
    next_step : str or None
        The next step for its error.
    noted : list of str
        Sentences about what was converted while the newest frames were extracted. Its ``warning``
        says what was lost or mended, and its ``notes`` have the number of each kind.
    projects : list of dict
        Its row in each project, with the project's stage, the next step, and the number of its
        frames: ``filtered`` and ``unique`` (None if there is no such table), ``rejected`` by
        reason, and ``excluded`` as near a reference picture. ``noted`` has sentences about the
        frames that it was filtered from, unless they are the newest.
    files : dict
        ``video`` and ``video_bytes``: the downloaded file (None if there is none); ``frames``: how
        many frames each folder has, the newest first; ``damaged``: problems with files.
    logs : list of Log
        The rules' logs for it, in the order of the stages.
    pause : dict or None
        Why its source pauses, if it is not downloaded yet.
    """

    video: dict[str, Any]
    next_step: str | None
    noted: list[str]
    projects: list[dict[str, Any]]
    files: dict[str, Any]
    logs: list[Log]
    pause: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the story as JSON values; times in ISO 8601, UTC."""
        shown: dict[str, Any] = json_value(asdict(self))
        return shown


def find_video(text: str) -> str:
    """Return the video with an id, or with a prefix that only one id has.

    Raises
    ------
    DataminerError
        If no or several ids match; the message names similar ids.
    """
    (found,) = query_snapshot([(_BEGINNING, {"text": text})])
    ids = [row["video_id"] for row in found] if text else []
    if ids and (ids[0] == text or len(ids) == 1):
        return str(ids[0])
    if ids:
        more = ", …" if len(ids) > 10 else ""
        raise DataminerError(
            f"several videos begin with {text}: {', '.join(ids[:10])}{more}", "give more of the id"
        )
    (rows,) = query_snapshot([(_ALL, {})])
    known = [str(row["video_id"]) for row in rows]
    near = _near(text, known)
    hint = f"did you mean {' or '.join(near)}?" if near else "`dataminer status` names failed ones"
    raise DataminerError(f"there is no video {text}", hint)


def story(video_id: str, store: Store, logs: Path = Path("logs")) -> VideoStory:
    """Read everything known about a video, without writing anything.

    Parameters
    ----------
    video_id : str
        Its full id.
    store : Store
        The store with the files.
    logs : Path
        The folder of the rules' logs.
    """
    key = {"video_id": video_id}
    videos, pairs, pauses = query_snapshot([(_VIDEO, key), (_PAIRS, key), (PAUSES, {})])
    if not videos:
        raise DataminerError(f"there is no video {video_id}", "it has just been deleted")
    names = [pair["project"] for pair in pairs]
    _advise(videos[0], names)
    for pair in pairs:
        project = pair["project"]
        _advise(pair, [project])
        newest = pair["filtered_from"] in (None, videos[0]["extract_fingerprint"])
        pair["noted"] = [] if newest else notes.sentences(pair["source_notes"])
        pair["filtered"] = _count(store.filtered(project, video_id))
        pair["rejected"] = _rejected(store.filtered(project, video_id))
        pair["excluded"] = _excluded(store.dedup(project), video_id)
        pair["unique"] = _count(store.dedup(project), video_id)
    return VideoStory(
        video=videos[0],
        next_step=videos[0].pop("next_step"),
        noted=notes.sentences(notes.without_warnings(videos[0]["notes"])),
        projects=pairs,
        files=_files(video_id, store),
        logs=list(_logs(video_id, names, logs)),
        pause=_pause_of(videos[0], pauses),
    )


def _pause_of(video: dict[str, Any], pauses: list[dict[str, Any]]) -> dict[str, Any] | None:
    if video["status"] not in ("PENDING", "DOWNLOADING") or video["url"].is_path:
        return None
    source = quota_of(video["url"].reveal()).source
    return next((pause for pause in pauses if pause["source"] == source), None)


def query_snapshot(
    queries: list[tuple[str, dict[str, Any]]], name: str = "why"
) -> list[list[dict[str, Any]]]:
    """Run queries on one snapshot of the database, without writing anything.

    Parameters
    ----------
    queries : list of tuple
        Queries and their parameters.
    name : str
        See :func:`dataminer.db.connection.connect`.

    Returns
    -------
    list of list of dict
        The rows of each result.
    """
    answers = []
    with reading(name) as session, session.cursor(cursor_factory=RealDictCursor) as cursor:
        for query, values in queries:
            cursor.execute(query, values)
            answers.append([masked_row(row) for row in cursor.fetchall()])
    return answers


def _near(text: str, known: list[str]) -> list[str]:
    """Return ids that are similar to ``text``, contain it, or begin with something similar."""
    if not text:
        return []
    beginnings: dict[str, str] = {}
    for name in sorted(known):
        beginnings.setdefault(name[: len(text)], name)
    return (
        difflib.get_close_matches(text, known, n=3)
        or sorted(name for name in known if text.lower() in name.lower())[:3]
        or [beginnings[near] for near in difflib.get_close_matches(text, beginnings, n=3)]
    )


def _advise(row: dict[str, Any], projects: list[str]) -> None:
    """Add the next step to a row, and complete the commands in its error."""
    failed = row["status"] == "FAILED"
    row["next_step"] = advice(row["error_class"], row["video_id"], projects, failed=failed) or None
    if row["error"]:
        row["error"] = runnable(row["error"], row["video_id"], projects)


def _files(video_id: str, store: Store) -> dict[str, Any]:
    folder = store.video(video_id)
    info: dict[str, Any] = {}
    damaged = []
    try:
        refuse_links(store.recipe(video_id, "x"))
    except DamagedFile as error:
        damaged.append(error.message)
    try:
        info = read_info(folder / INFO_FILE)
    except FileNotFoundError:
        pass
    except DamagedFile as error:
        damaged.append(error.message)
    media = results.video_file(folder, info)
    there = "video" in info and is_file(media)
    return {
        "video": str(media) if there else None,
        "video_bytes": media.stat().st_size if there else None,
        "frames": {
            str(folder): _count(folder)
            for recipe in recipes.of_video(store, video_id)
            if (folder := store.recipe(video_id, recipe))
        },
        "damaged": damaged,
    }


def _count(folder: Path, video_id: str | None = None) -> int | None:
    """Count the frames in a folder's table, of one video or of all."""
    try:
        table = read_table(folder / FRAMES_FILE, ["video_id"], schema=FRAMES_SCHEMA)
    except ABSENT_ERRORS:
        return None
    names = table["video_id"].to_pylist()
    return len(names) if video_id is None else names.count(video_id)


def _excluded(folder: Path, video_id: str) -> int:
    """Count the frames of a video that dedup left out, because they are near a reference."""
    table = read_excluded(folder)
    return 0 if table is None else table["video_id"].to_pylist().count(video_id)


def _rejected(folder: Path) -> dict[str, int]:
    """Return how many frames a filter left out by reason, the most frequent first."""
    reasons = Counter[str]((results.read_frames_meta(folder) or {}).get("rejected", {}))
    return {reason: count for reason, count in reasons.most_common() if count}


def _logs(video_id: str, projects: list[str], root: Path) -> Iterator[Log]:
    folders = [root / "download", root / "extract", *(root / "filter" / p for p in projects)]
    for path in (path for folder in folders for path in _logs_of(video_id, folder)):
        try:
            written, lines = path.stat().st_mtime, _tail(path)
        except OSError:
            continue
        if path.stem != video_id:  # a batch's
            lines = [line for line in lines if f" {video_id}: " in line]
        failed = any(" ERROR " in line or line.startswith("Traceback") for line in lines)
        yield Log(str(path), datetime.fromtimestamp(written, UTC), failed, lines[-_LAST_LINES:])


def _logs_of(video_id: str, folder: Path) -> list[Path]:
    """Return the log of the last batch that names a video, and its own if it has one."""
    name = f" {video_id}: ".encode()
    last = next((path for path in logs_of(folder) if name in path.read_bytes()), None)
    return [path for path in (last, folder / f"{video_id}.log") if path and path.is_file()]


def _tail(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_TAIL))
        return mask_text(file.read().decode("utf-8", "replace")).splitlines()
