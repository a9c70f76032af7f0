"""Links with new signatures: finds their rows, and renews them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor

from dataminer.db.connection import transaction
from dataminer.db.enums import VideoStatus
from dataminer.db.tables import NoTables
from dataminer.errors import FIXED_BY_SIGNATURE
from dataminer.net.rate_limit import YOUTUBE, quota_of
from dataminer.signatures import is_signed_earlier, unsigned
from dataminer.store.layout import Store
from dataminer.sync.claims import projects as project_rows
from dataminer.sync.claims.projects import SourceRow
from dataminer.sync.repair.retry_command import Retried, retry_within
from dataminer.urls import SourceUrl

_PAGE = 500  # videos per transaction, as for `retry`

# ---- statements --------------------------------------------------------------------------------

_ROWS = """
SELECT v.video_id, v.url, ARRAY(
    SELECT p.name FROM project_videos pv JOIN projects p USING (project_id)
    WHERE pv.video_id = v.video_id)
FROM videos v JOIN unnest(%(places)s::text[]) AS given (place)
    ON given.place = regexp_replace(split_part(v.url, '?', 1), '^(https?://)[^/]*@', '\\1')
ORDER BY v.created_at, v.video_id COLLATE "C"
"""

_LOCK = """
SELECT video_id, status, error_class, extracted_with, locked_by FROM videos
WHERE video_id = ANY(%(videos)s) ORDER BY video_id COLLATE "C" FOR NO KEY UPDATE
"""

_RENEW = """
UPDATE videos v SET url = m.url,
    not_before = CASE WHEN v.status <> 'PENDING' THEN v.not_before END,
    failures = CASE WHEN v.status = 'PENDING' THEN 0 ELSE v.failures END,
    failing_since = CASE WHEN v.status <> 'PENDING' THEN v.failing_since END
FROM unnest(%(videos)s::text[], %(urls)s::text[]) AS m (video_id, url)
WHERE v.video_id = m.video_id
"""


class RenewedRow(NamedTuple):
    """A video's row."""

    video_id: str
    url: SourceUrl
    projects: list[str]


@dataclass(frozen=True)
class Links:
    """The rows of some links.

    Parameters
    ----------
    rows : Mapping
        Rows by the part of a link that does not depend on its signature. Several are possible,
        because older versions made an id of the whole link.
    """

    rows: Mapping[str, list[RenewedRow]] = field(default_factory=dict)

    def id_of(self, source: SourceRow, project: str) -> str:
        """Return the id that a source has in a project, or should have."""
        rows = self._rows_of(source)
        ids = [row.video_id for row in rows if project in row.projects]
        ids = ids or [row.video_id for row in rows]
        return source.video_id if not ids or source.video_id in ids else ids[0]

    def renewed(self, sources: Iterable[SourceRow]) -> dict[str, SourceUrl]:
        """Return the links with new signatures that replace those of rows, by video."""
        return {
            row.video_id: source.url
            for source in sources
            if source.url.is_signed
            for row in self._rows_of(source)
            if row.url != source.url
            and not is_signed_earlier(source.url.reveal(), row.url.reveal())
        }

    def _rows_of(self, source: SourceRow) -> list[RenewedRow]:
        return self.rows.get(_unsigned(source.url), []) if self.rows else []


@dataclass(frozen=True)
class Renewed:
    """What new signatures changed.

    Parameters
    ----------
    videos : list of str
        Videos with a new link.
    retried : list of str
        Those of them that had failed and are retried.
    held : dict of str to str
        Failed videos that keep their old link, each with the name of who works on one of its
        projects.
    """

    videos: list[str] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)


def find_links(sources: Iterable[SourceRow]) -> Links:
    """Find the rows of links; write nothing."""
    unsigned_links = {
        _unsigned(source.url)
        for source in sources
        if not source.url.is_path and quota_of(source.url.reveal()).source != YOUTUBE
    }
    without_query = sorted({link.partition("?")[0] for link in unsigned_links})
    if not without_query:
        return Links()

    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(_ROWS, {"places": without_query})
            return list(cursor.fetchall())

    try:
        found = transaction(work, name="populate")
    except NoTables:
        return Links()
    rows: dict[str, list[RenewedRow]] = {}
    for video_id, url, projects in found:
        row = RenewedRow(video_id, SourceUrl(url), projects)
        rows.setdefault(_unsigned(row.url), []).append(row)
    return Links(rows)


def renew(links: Mapping[str, SourceUrl], store: Store) -> Renewed:
    """Give videos their new links.

    A waiting video need not wait any longer. A video that failed because of its signature is
    retried, as by `dataminer retry`. Downloaded files stay, and so do videos that somebody works
    on: if a download fails with the old link meanwhile, it begins again with the new one.

    Parameters
    ----------
    links : Mapping
        The links, as :meth:`Links.renewed` returns them.
    store : Store
        The store of the files.
    """
    renewed = Renewed()
    affected: set[int] = set()
    videos = sorted(links)
    for start in range(0, len(videos), _PAGE):
        page = {video_id: links[video_id] for video_id in videos[start : start + _PAGE]}
        work = partial(_renew, links=page, store=store)
        done, retried, of_projects = transaction(work, name="populate")
        renewed.videos.extend(done)
        renewed.retried.extend(row.video_id for row in retried if not row.held_by)
        renewed.held.update({row.video_id: row.held_by for row in retried if row.held_by})
        affected |= of_projects
    if affected:
        project_rows.refresh(sorted(affected))
    return renewed


def _renew(
    connection: Connection, links: Mapping[str, SourceUrl], store: Store
) -> tuple[list[str], list[Retried], set[int]]:
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(_LOCK, {"videos": list(links)})
        rows = cursor.fetchall()
        again = [row["video_id"] for row in rows if _may_be_repaired(row)]
        moved, affected = retry_within(connection, again, FIXED_BY_SIGNATURE, store)
        retried = [row for row in moved if row.project is None and row.was == VideoStatus.FAILED]
        held = {row.video_id for row in retried if row.held_by}
        renewed = [row["video_id"] for row in rows if row["video_id"] not in held]
        urls = [links[video_id].reveal() for video_id in renewed]
        cursor.execute(_RENEW, {"videos": renewed, "urls": urls})
    return renewed, retried, affected


def _may_be_repaired(row: Mapping[str, Any]) -> bool:
    """Return whether a new signature may help a failed video that nobody works on."""
    of_extract = row["status"] == VideoStatus.FAILED and row["extracted_with"] is not None
    return row["locked_by"] is None and row["error_class"] in FIXED_BY_SIGNATURE and not of_extract


def _unsigned(url: SourceUrl) -> str:
    """Return the part of a link that depends neither on its signature nor on credentials."""
    return unsigned(re.sub(r"^(https?://)[^/]*@", r"\1", url.reveal()))
