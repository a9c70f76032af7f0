"""Where each video stands in download, extract and filter."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from dataminer.config import Config
from dataminer.db.enums import ProjectVideoStatus, VideoStatus
from dataminer.errors import ErrorClass, Kind, kind_of
from dataminer.frames.images import ARCHIVE_FILE, seem_complete
from dataminer.frames.table import FRAMES_FILE
from dataminer.planning.marks import Marks
from dataminer.planning.rows import MemberRecord, Rows, VideoRecord
from dataminer.planning.verdicts import (
    BEFORE,
    BEGUN,
    DONE,
    FETCH_AGAIN,
    FORCED,
    KEPT,
    LOST,
    NEW,
    PASSING,
    REPLACED,
    RETRIED,
    UPTO,
    FramesOutlook,
    Verdict,
    VerdictState,
    in_state,
)
from dataminer.provenance.recipes import older_tables
from dataminer.store.file_stats import stats, times
from dataminer.store.layout import INFO_FILE, Store
from dataminer.store.trash import measure
from dataminer.sync.claims import stage_rows as stages
from dataminer.sync.jobs import results
from dataminer.urls import SourceUrl

_V, _PV = VideoStatus, ProjectVideoStatus

_TRANSIENT = frozenset(each for each in ErrorClass if kind_of(each) is Kind.TRANSIENT)
_CHOSEN = (_PV.FILTERED, _PV.FILTERED_EMPTY)
_MEASURED = 20  # videos whose frames are looked at to tell how large those of all are
_BYTES_PER_SECOND = 500_000.0  # of a file whose length nobody told: 4 Mbit/s, usual for 1080p


class _Files(NamedTuple):
    """The files that tell how a stage ended, by video.

    Parameters
    ----------
    path : callable
        Names the file.
    read : callable
        Judges by the file; None if it does not count.
    written : mapping of str to float
        When the row was written that should say the same, in seconds since 1970.
    stands : callable
        Tells whether the next stage can read it.
    reasons : collection of str or None
        Of what is to do and may be there all the same; None for all but what is forced.
    """

    path: Callable[[str], str]
    read: Callable[[str], Verdict | None]
    written: Mapping[str, float]
    stands: Callable[[str], bool]
    reasons: Collection[str] | None = None

    def may_have(self, reason: str) -> bool:
        """Tell whether what is to do for this reason may be there."""
        return reason != FORCED if self.reasons is None else reason in self.reasons


class Videos:
    """Judges videos stage by stage: forwards by rows and marks, then backwards by lost files.

    Parameters
    ----------
    config : Config
        The settings.
    rows : Rows
        What the database knows.
    upto : str
        The last stage that is wanted.
    forced : set of str
        Stages whose results are made anew.
    """

    def __init__(self, config: Config, rows: Rows, upto: str, forced: frozenset[str]) -> None:
        self._config, self._rows, self._forced = config, rows, forced
        self._last = UPTO.index(upto)
        self._store = Store(config.store_path)
        self._marks = Marks(config)
        self._downloads: dict[str, Verdict] = {}
        self._extracts: dict[str, Verdict] = {}
        self.filters: dict[str, dict[str, Verdict]] = {}
        """For each project, the verdict on the filter of each of its videos."""
        self._sha256: dict[str, str | None] = {}
        self._recipes: dict[str, str] = {}
        self._unseen: set[str] = set()  # videos whose frames no row says are there

    @property
    def stages(self) -> dict[str, dict[str, Verdict]]:
        """The verdicts on ``download`` and, if it is wanted, ``extract``."""
        extracts = {"extract": self._extracts} if self._last >= UPTO.index("extract") else {}
        return {"download": self._downloads, **extracts}

    def judge(self) -> None:
        """Judge all that is wanted."""
        rows = self._rows
        self._downloads = {v: next(self._download(row), DONE) for v, row in rows.videos.items()}
        self._by_files(self._downloads, self._downloaded)
        if self._last >= UPTO.index("extract"):
            self._extracts = {v: next(self._extract(row), DONE) for v, row in rows.videos.items()}
            self._by_files(self._extracts, self._extracted)
            self._unhindered()
            self._extracts |= {v: self._extracts[v]._replace(adopt=True) for v in self._older}
        if self._last >= UPTO.index("filter"):
            for project, members in rows.members.items():
                verdicts = {
                    v: next(self._filter(project, v, row), DONE) for v, row in members.items()
                }
                self._by_files(verdicts, self._filtered[project])
                self.filters[project] = verdicts
        self._look_for_losses()

    def frames(self) -> dict[str, tuple[str, ...]]:
        """Return from the frames of which recipes the projects choose, if there are any."""
        found: dict[str, tuple[str, ...]] = {}
        for v in in_state(self._extracts, VerdictState.DONE):
            kept = self._extracts[v].reason == KEPT
            found[v] = tuple(sorted(self._kept(v))) if kept else (self._recipe(v),)
        return found

    def second(self) -> FramesOutlook:
        """Return which videos will have frames of two recipes, and about how large the older are.

        Measured on a sample: to look at each image of 10,000 videos would take minutes.
        """
        if "extract" in self._forced:
            return FramesOutlook(0, 0)
        due = (self._rows.videos[v] for v in in_state(self._extracts, VerdictState.DUE))
        both = [
            row
            for row in due
            if row.status == _V.EXTRACTED and row.extract_fingerprint != self._recipe(row.video_id)
        ]
        sample = both[:: -(-len(both) // _MEASURED) or 1]
        size = measure(map(self._newest, sample)).bytes
        return FramesOutlook(len(both), size * len(both) // max(len(sample), 1))

    def lengths(self) -> dict[str, float]:
        """Return the seconds of each video with something due, as far as anything tells."""
        due = {
            v for verdicts in self.filters.values() for v in in_state(verdicts, VerdictState.DUE)
        }
        due |= {
            *in_state(self._extracts, VerdictState.DUE),
            *in_state(self._downloads, VerdictState.DUE),
        }
        rows = {video_id: self._rows.videos[video_id] for video_id in due}
        local = [v for v, row in rows.items() if not row.duration and SourceUrl(row.url).is_path]
        files = zip(local, stats([Path(rows[video_id].url) for video_id in local]), strict=True)
        told = {v: row.duration for v, row in rows.items() if row.duration}
        return told | {v: file.st_size / _BYTES_PER_SECOND for v, file in files if file}

    # ---- paths

    @cached_property
    def _written(self) -> dict[str, float]:
        return {video_id: row.updated for video_id, row in self._rows.videos.items()}

    @cached_property
    def _downloaded(self) -> _Files:
        return _Files(
            _named(self._store.video, INFO_FILE),
            self._downloaded_file,
            self._written,
            lambda v: results.read_download(self._store.video(v)) is not None,
            (NEW, RETRIED),
        )

    @cached_property
    def _extracted(self) -> _Files:
        return _Files(
            self._in_frames(FRAMES_FILE),
            self._extracted_file,
            self._written,
            lambda v: bool(_meta_of(self._extracted.path(v))),
        )

    @cached_property
    def _filtered(self) -> dict[str, _Files]:
        return {project: self._files_of(project) for project in self._rows.members}

    def _files_of(self, project: str) -> _Files:
        table = _named(partial(self._store.filtered, project), FRAMES_FILE)
        return _Files(
            table,
            partial(self._filtered_file, table),
            {video_id: row.updated for video_id, row in self._rows.members[project].items()},
            lambda v: bool(_meta_of(table(v))),
            (NEW, RETRIED),
        )

    @property
    def _archives(self) -> bool:
        return self._config.extract.frame_store == "tar"

    @cached_property
    def _archive(self) -> Callable[[str], str]:
        return self._in_frames(ARCHIVE_FILE)

    def _in_frames(self, name: str) -> Callable[[str], str]:
        """Return what names a file among the frames of the settings, for each video."""
        whole, older = _named(self._store.frames, "\1"), self._older

        def path(video_id: str) -> str:
            if video_id in older:
                return f"{older[video_id]}/{name}"
            kept = self._extracts.get(video_id, DONE).reason == KEPT
            recipe = next(iter(self._kept(video_id))) if kept else self._recipe(video_id)
            return whole(video_id).replace("\1", f"{recipe}/{name}")

        return path

    @cached_property
    def _older(self) -> dict[str, str]:
        """The folders of frames that lie as they did before there were recipes, by video."""
        rows = self._rows.videos.items()
        asked = [v for v, row in rows if row.sha256 is None and row.downloaded_with]
        tables = [(v, path) for v in asked for path in older_tables(self._store, v)]
        there = zip(tables, times([path for _, path in tables]), strict=True)
        return {v: str(path.parent) for (v, path), made in there if made}

    def _recipe(self, video_id: str) -> str:
        """Return the recipe of the frames that the settings make."""
        if video_id not in self._recipes:
            row = self._rows.videos[video_id]
            self._recipes[video_id] = self._marks.recipe(row, partial(self._sha256_of, row))
        return self._recipes[video_id]

    def _kept(self, video_id: str) -> dict[str, None]:
        """Return the recipes that projects go on with if none can be made any more."""
        chosen = [members[video_id].filtered_from for members in self._members_of(video_id)]
        newest = self._rows.videos[video_id].extract_fingerprint
        there = [recipe for recipe in chosen if recipe and self._is_there(video_id, recipe)]
        missing = newest and (len(there) < len(chosen) or not there)
        return dict.fromkeys([*there, newest] if missing else there)  # type: ignore[list-item]

    def _members_of(self, video_id: str) -> Iterator[Mapping[str, MemberRecord]]:
        return (rows for rows in self._rows.members.values() if video_id in rows)

    def _is_there(self, video_id: str, recipe: str) -> bool:
        return bool(results.read_frames_meta(self._store.recipe(video_id, recipe)))

    def _before(self, video_id: str) -> str | None:
        """Return from which frames a project of these has chosen before."""
        newest = self._rows.videos[video_id].extract_fingerprint
        rows = (members[video_id] for members in self._members_of(video_id))
        return next((row.filtered_from or newest for row in rows if row.filtered_with), None)

    @cached_property
    def _used(self) -> set[tuple[str, str | None]]:
        """Each video and recipe from which one of these projects has chosen."""
        rows = (row for members in self._rows.members.values() for row in members.items())
        return {(v, row.filtered_from) for v, row in rows if row.status in _CHOSEN}

    def _has_chosen(self, row: VideoRecord) -> bool:
        """Tell whether the frames of the settings were made, and other ones after them."""
        if row.sha256 is None or not self._used:
            return False
        recipe = self._recipe(row.video_id)
        if recipe == row.extract_fingerprint or (row.video_id, recipe) not in self._used:
            return False
        self._unseen.add(row.video_id)
        return True

    def _sha256_of(self, row: VideoRecord) -> str | None:
        """Return the SHA-256 of a video file; rows of older versions do not know it."""
        if row.sha256 is None and row.status != _V.PENDING and row.video_id not in self._sha256:
            info = results.read_info(self._store.video(row.video_id)) or {}
            self._sha256[row.video_id] = info.get("sha256")
        return self._sha256.get(row.video_id, row.sha256)

    def _newest(self, row: VideoRecord) -> Path:
        """Return the folder of the frames that were made last, whatever the settings."""
        if row.extract_fingerprint is None or row.video_id in self._older:
            return self._store.frames(row.video_id)
        return self._store.recipe(row.video_id, row.extract_fingerprint)

    # ---- videos, by rows: the first reason counts

    def _download(self, row: VideoRecord) -> Iterator[Verdict]:
        if "download" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if row.status == _V.PENDING and row.waits_until:
            yield Verdict(VerdictState.WAITING, f"until {row.waits_until}")
        if row.status == _V.DOWNLOADING:
            yield Verdict(VerdictState.DUE, BEGUN)
        if row.status == _V.PENDING or row.downloaded_with is None:
            asked = FETCH_AGAIN if row.downloaded_with == stages.FETCH_AGAIN else RETRIED
            first = PASSING if row.error_class in _TRANSIENT else NEW
            yield Verdict(VerdictState.DUE, asked if row.downloaded_with else first)
        if row.status == _V.FAILED and row.extracted_with is None:  # what is there stays
            folder = partial(self._store.video, row.video_id)
            yield from self._changed("download", row.downloaded_with, folder)
            yield Verdict(VerdictState.FAILED, str(row.error_class))

    def _extract(self, row: VideoRecord) -> Iterator[Verdict]:
        before = self._downloads[row.video_id]
        if before.state is not VerdictState.DONE:
            yield before._replace(adopt=False)
        if "extract" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if self._has_chosen(row):
            yield DONE
        if row.status == _V.DOWNLOADED and row.waits_until:
            yield Verdict(VerdictState.WAITING, f"until {row.waits_until}")
        if row.status == _V.EXTRACTING:
            yield Verdict(VerdictState.DUE, BEGUN)
        if row.status not in (_V.EXTRACTED, _V.FAILED):
            yield Verdict(VerdictState.DUE, RETRIED if row.extracted_with else NEW)
        if row.extracted_with is None or row.extract_fingerprint is None:  # older than the columns
            yield Verdict(VerdictState.DUE, NEW)
        if not self._marks.fits("extract", row.extracted_with):
            own = _is_kept(row) and self._is_there(row.video_id, self._recipe(row.video_id))
            if _is_kept(row):
                yield DONE if own else Verdict(VerdictState.DONE, KEPT)
            earlier = self._before(row.video_id)
            changed = self._change_of_frames(row, earlier) if earlier else NEW
            yield Verdict(VerdictState.DUE, changed)
        if row.status == _V.FAILED:
            yield Verdict(VerdictState.FAILED, str(row.error_class))

    def _filter(self, project: str, video_id: str, row: MemberRecord) -> Iterator[Verdict]:
        before = self._extracts[video_id]
        if before.state is VerdictState.FAILED and row.status != _PV.FAILED:
            yield Verdict(VerdictState.DUE, BEFORE)
        if before.state is not VerdictState.DONE:
            yield before._replace(adopt=False)
        if "filter" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if row.status == _PV.PENDING and row.waits_until:
            yield Verdict(VerdictState.WAITING, f"until {row.waits_until}")
        if row.status == _PV.FILTERING:
            yield Verdict(VerdictState.DUE, BEGUN)
        if row.status == _PV.PENDING or row.filtered_with is None or row.filtered_from is None:
            yield Verdict(VerdictState.DUE, RETRIED if row.filtered_with else NEW)
        folder = partial(self._store.filtered, project, video_id)
        yield from self._changed("filter", row.filtered_with, folder)
        if row.filtered_from != self._recipe(video_id) and before.reason != KEPT:
            video = self._rows.videos[video_id]
            yield Verdict(VerdictState.DUE, self._change_of_frames(video, row.filtered_from))
        if row.status == _PV.FAILED:
            yield Verdict(VerdictState.FAILED, str(row.error_class))

    def _changed(
        self, stage: str, made: str | None, folder: Callable[[], Path]
    ) -> Iterator[Verdict]:
        if made and not self._marks.fits(stage, made):
            yield Verdict(VerdictState.DUE, self._marks.change(stage, made, folder()))

    def _change_of_frames(self, row: VideoRecord, recipe: str | None) -> str:
        """Say what has changed since frames of a video were made."""
        newest = recipe is None or recipe == row.extract_fingerprint
        folder = self._newest(row) if newest else self._store.recipe(row.video_id, str(recipe))
        made = row.extracted_with if newest else recipe
        return self._marks.change("extract", str(made), folder)

    # ---- videos, by files

    def _by_files(self, verdicts: dict[str, Verdict], files: _Files) -> None:
        """Judge by files what rows call new, or what failed before its file was made.

        Of frames a row knows the newest, so that all may be there that it calls due.
        """
        failed = set(in_state(verdicts, VerdictState.FAILED))
        to_do = [
            v
            for state in (VerdictState.DUE, VerdictState.WAITING)
            for v in in_state(verdicts, state)
        ]
        asked = [*(v for v in to_do if files.may_have(verdicts[v].reason)), *failed]
        for video_id, made in zip(asked, times([files.path(v) for v in asked]), strict=True):
            if made is None or (video_id in failed and made <= files.written[video_id]):
                continue
            found = files.read(video_id)
            if found and not (video_id in failed and found.state is VerdictState.FAILED):
                verdicts[video_id] = found

    def _downloaded_file(self, video_id: str) -> Verdict | None:
        folder = self._store.video(video_id)
        info = results.read_info(folder) or {}
        outcome = results.outcome_of_info(folder, info)
        if outcome is None:
            return None
        failed = outcome.status == _V.FAILED
        if failed and not self._marks.fits("download", outcome.columns["downloaded_with"]):
            return None
        self._sha256[video_id] = info.get("sha256")
        return _of_file(info)

    def _extracted_file(self, video_id: str) -> Verdict | None:
        if self._downloads[video_id].state is not VerdictState.DONE:
            return None
        meta = self._whole(self._extracted.path(video_id))
        if meta is None or not self._marks.fits("extract", meta.get("made_with")):
            return None
        row = self._rows.videos[video_id]
        if meta.get("fingerprint") != self._recipe(video_id):
            return None
        known = row.extract_fingerprint is not None and row.status != _V.DOWNLOADED
        return _of_file(meta)._replace(adopt=not known)

    def _unhindered(self) -> None:
        """Call done what has its frames, while its source is fetched for frames of others."""
        held = {
            v: verdict
            for v, verdict in self._downloads.items()
            if verdict.state is not VerdictState.DONE
            and verdict.reason not in (NEW, FETCH_AGAIN, FORCED)
            and self._rows.videos[v].sha256
        }
        made = times([self._extracted.path(v) for v in held])
        for video_id, there in zip(held, made, strict=True):
            self._downloads[video_id] = DONE
            chosen = self._has_chosen(self._rows.videos[video_id])
            found = self._extracted_file(video_id) if there and not chosen else None
            if chosen or (found and found.state is VerdictState.DONE):
                self._extracts[video_id] = DONE
            else:
                self._downloads[video_id] = held[video_id]

    def _whole(self, table: str) -> Mapping[str, Any] | None:
        """Return what is known about a table of frames, if they seem to be all there."""
        folder = os.path.dirname(table)
        meta = results.read_frames_meta(folder)
        if meta is None or not ("failure" in meta or seem_complete(folder, meta)):
            return None
        return meta

    def _filtered_file(self, table: Callable[[str], str], video_id: str) -> Verdict | None:
        if self._extracts[video_id].state is not VerdictState.DONE:
            return None
        meta = self._whole(table(video_id))
        if meta is None:
            return None
        kept = self._extracts[video_id].reason == KEPT
        frames = meta.get("filtered_from") if kept else self._recipe(video_id)
        if meta.get("fingerprint") != self._marks.of_filter(frames, meta.get("seen", ())):
            return None
        return _of_file(meta)

    # ---- what is gone, and needed

    def _look_for_losses(self) -> None:
        needed: set[str] | None = None  # all that are done
        for project, verdicts in self.filters.items():
            files = self._filtered[project]
            self._lose(verdicts, files, None, (VerdictState.DONE, VerdictState.FAILED))
            self._retry_without_frames(verdicts)
            if self._archives:  # filtered tables point into them
                self._lose(verdicts, files._replace(path=self._archive), None)
            needed = (needed or set()) | set(in_state(verdicts, VerdictState.DUE))
        if self._extracts:
            self._lose(self._extracts, self._extracted, needed)
            if self._archives:
                self._lose(self._extracts, self._extracted._replace(path=self._archive), needed)
            needed = set(in_state(self._extracts, VerdictState.DUE))
        self._lose(self._downloads, self._downloaded, needed)
        self._lose(self._downloads, self._downloaded._replace(path=self._media), needed)

    def _retry_without_frames(self, verdicts: dict[str, Verdict]) -> None:
        """Call a filter due that failed on frames that somebody has removed since."""
        failed = [
            v
            for v in in_state(verdicts, VerdictState.FAILED)
            if self._extracts[v].state is VerdictState.DONE
        ]
        found = times([self._extracted.path(v) for v in failed])
        lost = (v for v, made in zip(failed, found, strict=True) if made is None)
        verdicts.update(dict.fromkeys(lost, Verdict(VerdictState.DUE, LOST)))

    def _lose(
        self,
        verdicts: dict[str, Verdict],
        files: _Files,
        needed: Collection[str] | None,
        states: Sequence[VerdictState] = (VerdictState.DONE,),
    ) -> None:
        """Call due what is needed, and is gone, damaged or of other settings than its row says.

        The latter comes of an older dump: its files are newer than their rows.
        """
        judged = [v for state in states for v in in_state(verdicts, state)]
        asked = [v for v in judged if needed is None or v in needed]
        for video_id, made in zip(asked, times([files.path(v) for v in asked]), strict=True):
            if made is None or (needed is not None and not files.stands(video_id)):
                verdicts[video_id] = Verdict(VerdictState.DUE, LOST)
            elif verdicts[video_id] == DONE and (
                made > files.written[video_id]
                or (files is self._extracted and video_id in self._unseen)
            ):
                found = files.read(video_id)
                if found is None or found.state is not VerdictState.DONE:
                    verdicts[video_id] = Verdict(VerdictState.DUE, REPLACED)

    def _media(self, video_id: str) -> str:
        path = self._rows.videos[video_id].video_path
        info = self._downloaded.path(video_id)
        return os.path.join(os.path.dirname(info), os.path.basename(path)) if path else info


def _named(folder: Callable[[str], Path], name: str) -> Callable[[str], str]:
    """Return what names a file of each video, as text: paths would take a third of a plan."""
    before, after = str(folder("\0") / name).split("\0")
    return lambda video_id: f"{before}{video_id}{after}"


def _meta_of(table: str) -> Mapping[str, Any] | None:
    return results.read_frames_meta(os.path.dirname(table))


def _is_kept(row: VideoRecord) -> bool:
    """Tell whether a video's source is gone for good, so that there will be no other frames."""
    return row.status == _V.EXTRACTED and None not in (row.error_class, row.extract_fingerprint)


def _of_file(meta: Mapping[str, Any]) -> Verdict:
    if "failure" in meta:
        return Verdict(VerdictState.FAILED, str(meta["failure"]["error_class"]), adopt=True)
    return Verdict(VerdictState.DONE, adopt=True)
