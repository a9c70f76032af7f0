"""Makes rows and files agree, both ways: files decide what exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2.extensions import connection as Connection

from dataminer import commands
from dataminer.config import MonitorConfig
from dataminer.db.connection import reading, transaction
from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, SourceType, VideoStatus
from dataminer.files.reading import list_names
from dataminer.store.layout import Store
from dataminer.store.trash import PROJECT_NAME, VIDEO_ID
from dataminer.sync.claims import projects as project_rows
from dataminer.sync.claims import stage_rows
from dataminer.sync.claims.stage_rows import StageRows
from dataminer.sync.claims.statements import FROM_FILES, PROJECT_STAGE, PROJECTS_OF_VIDEOS
from dataminer.sync.jobs import results
from dataminer.sync.repair import row_repair
from dataminer.sync.repair.evidence import Evidence, StoreInspector, Unreadable, read_if_whole
from dataminer.sync.repair.report import Repair, Report
from dataminer.sync.repair.row_repair import FoundResult
from dataminer.sync.repair.snapshot import (
    MemberRow,
    ProjectRow,
    RowSnapshot,
    RowsOfProjects,
    VideoRow,
    read_rows,
)
from dataminer.urls import SourceUrl

# ---- statements: values bound ------------------------------------------------------------------

_EXPECTED_STAGES = f"""
SELECT name, {PROJECT_STAGE}
FROM unnest(%(names)s::text[], %(stages)s::text[], %(begun)s::int[], %(unfiltered)s::int[],
    %(usable)s::int[]) AS counted (name, project_stage, begun, unfiltered, usable)
"""

_V, _PV, _P = VideoStatus, ProjectVideoStatus, ProjectStatus
_ORDER = (_P.DEDUP_READY, _P.DETECT_READY, _P.COMPLETE)
_RUNNING = stage_rows.running_statuses("projects")
_RANK: dict[str, int] = {
    **{_V.PENDING: 0, _V.DOWNLOADED: 1, _V.EXTRACTED: 2, _V.FAILED: 2},
    **dict.fromkeys(stage_rows.FILTER.done, 2),
    **{stage: rank for rank, stage in enumerate(_ORDER)},
}
_NO_ID = -1  # of a row that a dry run did not make


def reconcile(
    store: Store,
    projects: Iterable[str] | None,
    settings: MonitorConfig,
    *,
    deep: bool = False,
    dry_run: bool = False,
    adopt_only: bool = False,
) -> Report:
    """Make the rows of projects and the files of the store agree.

    Rows that lag behind whole files adopt them. Rows that are ahead of their files are reverted,
    and outputs that Snakemake would still accept are removed. Missing rows are made from files. It
    is safe at any time: claimed rows are left alone, and every write is fenced.

    Parameters
    ----------
    store : Store
        The store.
    projects : iterable of str or None
        Their names; None for all in the database.
    settings : MonitorConfig
        The age at which a claim is stale.
    deep : bool
        Check for every image of finished folders, not only for the folder and its table.
    dry_run : bool
        Write nothing.
    adopt_only : bool
        Add no rows, revert none and remove nothing, as each run does by itself: its plan has no
        more videos, and somebody may have deleted frames to save space.
    """
    names = None if projects is None else sorted(set(projects))
    report = Report(dry_run=dry_run)
    files, tables = StoreInspector(store, deep, quick=adopt_only), read_rows(names)
    _Reconciler(store, names, settings, files, report, tables, adopt_only).run()
    return report


@dataclass(frozen=True)
class _FoundVideo:
    """A video with files and without a row."""

    video_id: str
    url: SourceUrl
    source_info: dict[str, Any] = field(default_factory=lambda: {"origin": FROM_FILES})

    @property
    def source_type(self) -> str:
        return SourceType.FILE if self.url.is_path else SourceType.URL


@dataclass(frozen=True)
class _Subject:
    """A row, what its files support, and the results that lead to a status."""

    name: str
    stage: StageRows
    key: dict[str, Any]
    row: RowSnapshot
    judge: Callable[[], Evidence]
    steps: Callable[[str], list[FoundResult]]


@dataclass
class _Reconciler:
    store: Store
    names: list[str] | None
    settings: MonitorConfig
    files: StoreInspector
    report: Report
    tables: RowsOfProjects
    adopt_only: bool = False
    changed_videos: set[str] = field(default_factory=set)

    def run(self) -> None:
        if not self.adopt_only:
            self._make_missing_rows()
        for video_id, video in self.tables.videos.items():
            if video.requested and not video.again and self._repair(self._video(video_id, video)):
                self.changed_videos.add(video_id)
        for project, members in self.tables.members.items():
            for video_id, member in members.items():
                if self.tables.projects[project].status not in _RUNNING:
                    self._repair(self._member(project, video_id, member))
        self._update_stages()
        repaired = [self._repair(self._project(*item)) for item in self.tables.projects.items()]
        if any(repaired) and not self.report.dry_run:
            self._refresh()
        if self.names is None:
            self._note_unknown_projects()
        for name in sorted(set(self.names or []) - self.tables.projects.keys()):
            self.report.notes.append(f"there is no project {name}, and no files of one")

    # ---- rows that are missing

    def _note_unknown_projects(self) -> None:
        projects = list_names(self.store.project("x").parent, PROJECT_NAME)
        for name in sorted(projects - self.tables.projects.keys()):
            if list_names(self.store.filtered(name, "x").parent):
                command = commands.dataminer("sync", "--project", name)
                self.report.notes.append(
                    f"project {name} has files and no row. Next: `{command}` makes its rows from"
                    " them, `dataminer cleanup-orphans` lists them"
                )

    def _make_missing_rows(self) -> None:
        for project in self.names or list(self.tables.projects):
            found = self._videos_without_rows(project)
            for source in found:
                if source.video_id not in self.tables.videos:
                    self._record("videos", source.video_id, "missing", _V.PENDING)
                self._record(
                    "project_videos", f"{project}/{source.video_id}", "missing", _PV.PENDING
                )
            if found and self.report.dry_run:
                self._pretend_rows(project, found)
            elif found:
                project_rows.add_videos(project, found)
        if self.report.repairs and not self.report.dry_run:
            self.tables = read_rows(self.names)

    def _videos_without_rows(self, project: str) -> list[_FoundVideo]:
        """Find the videos with files in a project's folder and without a row in it."""
        if not PROJECT_NAME.fullmatch(project):
            return []
        members = self.tables.members.get(project, {})
        folders = list_names(self.store.filtered(project, "x").parent, VIDEO_ID)
        found = []
        for video_id in sorted(folders - members.keys()):
            if _has_no_result(results.read_filter, self.store.filtered(project, video_id)):
                continue
            row = self.tables.videos.get(video_id)
            url = row.url if row else self._url(video_id)
            if url:
                found.append(_FoundVideo(video_id, url))
            else:
                self.report.notes.append(
                    f"{project}/{video_id} has no row, and no file says where it came from. Next:"
                    " add it again, or see `dataminer cleanup-orphans`"
                )
        return found

    def _url(self, video_id: str) -> SourceUrl | None:
        folder = self.store.video(video_id)
        if _has_no_result(results.read_download, folder):
            return None
        url = (results.read_info_or_none(folder) or {}).get("url")
        return SourceUrl(url) if url else None

    def _pretend_rows(self, project: str, found: list[_FoundVideo]) -> None:
        """Continue, in a dry run, as if the rows had been made."""
        self.tables.projects.setdefault(project, ProjectRow(_P.FILTERING, 0, _NO_ID, ()))
        members = self.tables.members.setdefault(project, {})
        for source in found:
            row = VideoRow(_V.PENDING, 0, source.url, requested=True)
            self.tables.videos.setdefault(source.video_id, row).requested = True
            members[source.video_id] = MemberRow(_PV.PENDING, 0, _NO_ID)

    # ---- rows that disagree

    def _video(self, video_id: str, row: VideoRow) -> _Subject:
        folder = self.store.video(video_id)
        download = FoundResult(stage_rows.DOWNLOAD, folder, results.read_download)

        def steps(status: str) -> list[FoundResult]:
            frames = self.files.frames(video_id, row.recipe).folder
            extract = FoundResult(stage_rows.EXTRACT, frames, results.read_extract)
            failed = "failure" in (results.read_info_or_none(folder) or {})
            if failed or status == _V.DOWNLOADED:
                return [download]
            has_download = row.status in (_V.DOWNLOADED, _V.EXTRACTED)
            return [extract] if has_download else [download, extract]

        def judge() -> Evidence:
            return self.files.video(video_id, row.status, row.recipe)

        return _Subject(video_id, stage_rows.DOWNLOAD, {"video_id": video_id}, row, judge, steps)

    def _member(self, project: str, video_id: str, row: MemberRow) -> _Subject:
        step = FoundResult(
            stage_rows.FILTER, self.store.filtered(project, video_id), results.read_filter
        )
        key = {"project_id": row.project_id, "video_id": video_id}
        gone = self._frames_are_gone(video_id)

        def judge() -> Evidence:
            return self.files.member(project, video_id, row.status, source_gone=gone)

        return _Subject(
            f"{project}/{video_id}", stage_rows.FILTER, key, row, judge, lambda status: [step]
        )

    def _frames_are_gone(self, video_id: str) -> bool:
        row = self.tables.videos[video_id]
        waits = row.status in (_V.PENDING, _V.DOWNLOADED)
        return waits and self.files.frames(video_id, row.recipe).outcome is None

    def _project(self, project: str, row: ProjectRow) -> _Subject:
        dedup = FoundResult(stage_rows.DEDUP, self.store.dedup(project), results.read_dedup)
        detect = FoundResult(stage_rows.DETECT, self.store.detect(project), results.read_detect)

        def steps(status: str) -> list[FoundResult]:
            until = _RANK[status]
            return [dedup, detect][_RANK[row.status] : until]

        def judge() -> Evidence:
            members = self.tables.members[project]
            # the others cannot be worked on now, or the project's stage would be FILTERING
            ended = [v for v, m in members.items() if m.status in stage_rows.FILTER.done]
            return self.files.project(project, row.status, ended)

        return _Subject(
            project, stage_rows.DEDUP, {"project_id": row.project_id}, row, judge, steps
        )

    def _repair(self, subject: _Subject) -> bool:
        """Make one row agree with its files; return whether that was needed and done."""
        row, before = subject.row, subject.row.status
        if before not in _RANK:
            return False  # claimed, or waiting for an earlier stage
        try:
            evidence = subject.judge()
            if evidence.status == before and not evidence.remove and not evidence.renamed:
                return False
            if self.adopt_only and (evidence.remove or _RANK[evidence.status] < _RANK[before]):
                return False
            done = self.report.dry_run or self._apply(subject, evidence)
        except Unreadable as error:
            self.report.notes.append(str(error))
            return False
        if done:
            row.status = evidence.status
            removed = tuple(str(path) for path in evidence.remove)
            after = f"{evidence.status} with other frames" if evidence.renamed else evidence.status
            self._record(subject.stage.table, subject.name, before, after, removed)
        return done

    def _apply(self, subject: _Subject, evidence: Evidence) -> bool:
        row, status, lease = subject.row, subject.row.status, subject.row.lease
        if evidence.status != status and _RANK[evidence.status] >= _RANK[status]:
            steps = subject.steps(evidence.status)
            if not row_repair.adopt_results(steps, subject.key, lease, self.settings):
                return False
            row.status, row.lease = evidence.status, lease + len(steps)
            if evidence.remove:  # later results are of an older state
                self._revert(subject, evidence)
            return True
        return self._revert(subject, evidence)

    def _revert(self, subject: _Subject, evidence: Evidence) -> bool:
        now = (subject.row.status, subject.row.lease)
        return row_repair.revert_row(subject.stage, subject.key, now, evidence, subject.judge)

    # ---- counters and stages

    def _update_stages(self) -> None:
        """Recount projects, and move them to the stages that follow from their videos' rows."""
        before = self.tables.projects
        if self.report.dry_run:
            after = self._expected()
        else:
            self._refresh()
            after = read_rows(self.names).projects
        for name, row in after.items():
            was = before.get(name, row)
            if was.status != row.status:
                self._record("projects", name, was.status, row.status)
            elif was.counters != row.counters and not self.report.repairs:
                self._record("projects", name, "wrong counters", "recounted")
        self.tables.projects = {n: row for n, row in after.items() if n in self.tables.members}

    def _expected(self) -> dict[str, ProjectRow]:
        """Return the projects' rows with the stages that a refresh would give them."""
        projects = self.tables.projects
        counts = [self._counts(self.tables.members[name]) for name in projects]
        values = {
            "names": list(projects),
            "stages": [row.status for row in projects.values()],
            "begun": [begun for begun, _, _ in counts],
            "unfiltered": [unfiltered for _, unfiltered, _ in counts],
            "usable": [usable for _, _, usable in counts],
            "refiltered": False,
        }
        with reading("sync") as session, session.cursor() as cursor:
            cursor.execute(_EXPECTED_STAGES, values)
            stages = cursor.fetchall()
        return {name: replace(projects[name], status=stage) for name, stage in stages}

    def _counts(self, members: Mapping[str, MemberRow]) -> tuple[int, int, int]:
        """Count a project's videos that are begun, unfiltered and usable."""
        rows = [(member, self.tables.videos[video_id]) for video_id, member in members.items()]
        return (
            sum(m.status != _PV.PENDING or v.status != _V.PENDING for m, v in rows),
            sum(m.status not in stage_rows.FILTER.done and m.is_ready for m, _ in rows),
            sum(m.status in stage_rows.FILTER.past for m, _ in rows),
        )

    def _refresh(self) -> None:
        ids = {row.project_id for row in self.tables.projects.values()}

        def others(connection: Connection) -> set[int]:
            with connection.cursor() as cursor:
                cursor.execute(PROJECTS_OF_VIDEOS, {"video_ids": sorted(self.changed_videos)})
                return {row[0] for row in cursor.fetchall()}

        ids |= transaction(others, name="sync") if self.changed_videos else set()
        if ids:
            project_rows.refresh(sorted(ids))

    def _record(
        self, table: str, row: str, before: str, after: str, removed: tuple[str, ...] = ()
    ) -> None:
        self.report.repairs.append(Repair(table, row, str(before), str(after), removed))


def _has_no_result(reader: Callable[..., Any], folder: Any) -> bool:
    try:
        return read_if_whole(reader, folder) is None
    except Unreadable:
        return True
