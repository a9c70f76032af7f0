"""Where each video stands in download, extract and filter."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from dataminer.config import Config
from dataminer.db.enums import ProjectVideoStatus, VideoStatus
from dataminer.filestats import stats, times
from dataminer.frames import FRAMES_FILE
from dataminer.images import ARCHIVE_FILE, seem_whole
from dataminer.planning.marks import Marks
from dataminer.planning.rows import Member, Rows, Video
from dataminer.planning.verdicts import (
    BEFORE,
    BEGUN,
    DONE,
    FETCH_AGAIN,
    FORCED,
    INPUT,
    LOST,
    NEW,
    REPLACED,
    RETRIED,
    UPTO,
    State,
    Verdict,
    in_state,
)
from dataminer.store import INFO_FILE, Store
from dataminer.sync import results, stages
from dataminer.urls import SourceUrl

_V, _PV = VideoStatus, ProjectVideoStatus

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
    """

    path: Callable[[str], str]
    read: Callable[[str], Verdict | None]
    written: Mapping[str, float]


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
        self._frames_made = {v: row.extract_fingerprint for v, row in rows.videos.items()}

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
        if self._last >= UPTO.index("filter"):
            for project, members in rows.members.items():
                verdicts = {
                    v: next(self._filter(project, v, row), DONE) for v, row in members.items()
                }
                self._by_files(verdicts, self._filtered[project])
                self.filters[project] = verdicts
        self._look_for_losses()

    def frames(self) -> dict[str, str]:
        """Return the fingerprint of each video's frames, if there are any."""
        return {video_id: made for video_id, made in self._frames_made.items() if made}

    def lengths(self) -> dict[str, float]:
        """Return the seconds of each video with something due, as far as anything tells."""
        due = {v for verdicts in self.filters.values() for v in in_state(verdicts, State.DUE)}
        due |= {*in_state(self._extracts, State.DUE), *in_state(self._downloads, State.DUE)}
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
        )

    @cached_property
    def _extracted(self) -> _Files:
        return _Files(
            _named(self._store.frames, FRAMES_FILE),
            self._extracted_file,
            self._written,
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
        )

    @property
    def _archives(self) -> bool:
        return self._config.extract.frame_store == "tar"

    @cached_property
    def _archive(self) -> Callable[[str], str]:
        return _named(self._store.frames, ARCHIVE_FILE)

    # ---- videos, by rows: the first reason counts

    def _download(self, row: Video) -> Iterator[Verdict]:
        if "download" in self._forced:
            yield Verdict(State.DUE, FORCED)
        if row.status == _V.PENDING and row.waits_until:
            yield Verdict(State.WAITING, f"until {row.waits_until}")
        if row.status == _V.DOWNLOADING:
            yield Verdict(State.DUE, BEGUN)
        if row.status == _V.PENDING or row.downloaded_with is None:
            asked = FETCH_AGAIN if row.downloaded_with == stages.FETCH_AGAIN else RETRIED
            yield Verdict(State.DUE, asked if row.downloaded_with else NEW)
        if row.status == _V.FAILED and row.extracted_with is None:  # what is there stays
            folder = self._store.video
            yield from self._changed("download", row.downloaded_with, folder, row.video_id)
            yield Verdict(State.FAILED, str(row.error_class))

    def _extract(self, row: Video) -> Iterator[Verdict]:
        before = self._downloads[row.video_id]
        if before.state is not State.DONE:
            yield before._replace(adopt=False)
        if "extract" in self._forced:
            yield Verdict(State.DUE, FORCED)
        if row.status == _V.DOWNLOADED and row.waits_until:
            yield Verdict(State.WAITING, f"until {row.waits_until}")
        if row.status == _V.EXTRACTING:
            yield Verdict(State.DUE, BEGUN)
        if row.status not in (_V.EXTRACTED, _V.FAILED):
            yield Verdict(State.DUE, RETRIED if row.extracted_with else NEW)
        if row.extracted_with is None or row.extract_fingerprint is None:  # older than the columns
            yield Verdict(State.DUE, NEW)
        yield from self._changed("extract", row.extracted_with, self._store.frames, row.video_id)
        if row.status == _V.FAILED:
            yield Verdict(State.FAILED, str(row.error_class))

    def _filter(self, project: str, video_id: str, row: Member) -> Iterator[Verdict]:
        before = self._extracts[video_id]
        if before.state is State.FAILED and row.status != _PV.FAILED:
            yield Verdict(State.DUE, BEFORE)
        if before.state is not State.DONE:
            yield before._replace(adopt=False)
        if "filter" in self._forced:
            yield Verdict(State.DUE, FORCED)
        if row.status == _PV.FILTERING:
            yield Verdict(State.DUE, BEGUN)
        if row.status == _PV.PENDING or row.filtered_with is None or row.filtered_from is None:
            yield Verdict(State.DUE, RETRIED if row.filtered_with else NEW)
        folder = partial(self._store.filtered, project)
        yield from self._changed("filter", row.filtered_with, folder, video_id)
        if row.filtered_from != self._frames_made[video_id]:
            yield Verdict(State.DUE, INPUT)
        if row.status == _PV.FAILED:
            yield Verdict(State.FAILED, str(row.error_class))

    def _changed(
        self, stage: str, made: str | None, folder: Callable[[str], Path], video_id: str
    ) -> Iterator[Verdict]:
        if made and not self._marks.fits(stage, made):
            yield Verdict(State.DUE, self._marks.change(stage, made, folder(video_id)))

    # ---- videos, by files

    def _by_files(self, verdicts: dict[str, Verdict], files: _Files) -> None:
        """Judge by files what rows call new, or what failed before its file was made."""
        failed = set(in_state(verdicts, State.FAILED))
        new = [v for v, verdict in verdicts.items() if verdict.reason in (NEW, RETRIED)]
        asked = [*new, *failed]
        for video_id, made in zip(asked, times([files.path(v) for v in asked]), strict=True):
            if made is None or (video_id in failed and made <= files.written[video_id]):
                continue
            found = files.read(video_id)
            if found and not (video_id in failed and found.state is State.FAILED):
                verdicts[video_id] = found

    def _downloaded_file(self, video_id: str) -> Verdict | None:
        folder = self._store.video(video_id)
        info = results.read_info(folder) or {}
        outcome = results.of_info(folder, info)
        if outcome is None:
            return None
        failed = outcome.status == _V.FAILED
        if failed and not self._marks.fits("download", outcome.columns["downloaded_with"]):
            return None
        self._sha256[video_id] = info.get("sha256")
        return _of_file(info)

    def _extracted_file(self, video_id: str) -> Verdict | None:
        if self._downloads[video_id].state is not State.DONE:
            return None
        meta = self._whole(self._extracted.path(video_id))
        if meta is None or not self._marks.fits("extract", meta.get("made_with")):
            return None
        status = _V.FAILED if "failure" in meta else _V.EXTRACTED
        made = meta.get("fingerprint")
        # else the row says that the frames are of this video file
        differs = status != self._rows.videos[video_id].status
        if differs and made != self._marks.of_extract(self._sha256_of(video_id)):
            return None
        self._frames_made[video_id] = made
        return _of_file(meta)

    def _sha256_of(self, video_id: str) -> str | None:
        if video_id not in self._sha256:
            info = results.read_info(self._store.video(video_id)) or {}
            self._sha256[video_id] = info.get("sha256")
        return self._sha256[video_id]

    def _whole(self, table: str) -> Mapping[str, Any] | None:
        """Return what is known about a table of frames, if they seem to be all there."""
        folder = os.path.dirname(table)
        meta = results.read_frames_meta(folder)
        if meta is None or not ("failure" in meta or seem_whole(folder, meta)):
            return None
        return meta

    def _filtered_file(self, table: Callable[[str], str], video_id: str) -> Verdict | None:
        if self._extracts[video_id].state is not State.DONE:
            return None
        meta = self._whole(table(video_id))
        frames = self._frames_made[video_id]
        if meta is None:
            return None
        if meta.get("fingerprint") != self._marks.of_filter(frames, meta.get("seen", ())):
            return None
        return _of_file(meta)

    # ---- what is gone, and needed

    def _look_for_losses(self) -> None:
        needed: set[str] | None = None  # all that are done
        for project, verdicts in self.filters.items():
            files = self._filtered[project]
            self._lose(verdicts, files, None, (State.DONE, State.FAILED))
            self._retry_without_frames(verdicts)
            if self._archives:  # filtered tables point into them
                self._lose(verdicts, files._replace(path=self._archive), None)
            needed = (needed or set()) | set(in_state(verdicts, State.DUE))
        if self._extracts:
            self._lose(self._extracts, self._extracted, needed)
            if self._archives:
                self._lose(self._extracts, self._extracted._replace(path=self._archive), needed)
            needed = set(in_state(self._extracts, State.DUE))
        self._lose(self._downloads, self._downloaded, needed)
        self._lose(self._downloads, self._downloaded._replace(path=self._media), needed)

    def _retry_without_frames(self, verdicts: dict[str, Verdict]) -> None:
        """Call a filter due that failed on frames that somebody has removed since."""
        failed = [
            v for v in in_state(verdicts, State.FAILED) if self._extracts[v].state is State.DONE
        ]
        found = times([self._extracted.path(v) for v in failed])
        lost = (v for v, made in zip(failed, found, strict=True) if made is None)
        verdicts.update(dict.fromkeys(lost, Verdict(State.DUE, LOST)))

    def _lose(
        self,
        verdicts: dict[str, Verdict],
        files: _Files,
        needed: Collection[str] | None,
        states: Sequence[State] = (State.DONE,),
    ) -> None:
        """Call due what is needed, and is gone or of other settings than its row says.

        The latter comes of an older dump: its files are newer than their rows.
        """
        judged = [v for state in states for v in in_state(verdicts, state)]
        asked = [v for v in judged if needed is None or v in needed]
        for video_id, made in zip(asked, times([files.path(v) for v in asked]), strict=True):
            if made is None:
                verdicts[video_id] = Verdict(State.DUE, LOST)
            elif verdicts[video_id] == DONE and made > files.written[video_id]:
                found = files.read(video_id)
                if found is None or found.state is not State.DONE:
                    verdicts[video_id] = Verdict(State.DUE, REPLACED)

    def _media(self, video_id: str) -> str:
        path = self._rows.videos[video_id].video_path
        info = self._downloaded.path(video_id)
        return os.path.join(os.path.dirname(info), os.path.basename(path)) if path else info


def _named(folder: Callable[[str], Path], name: str) -> Callable[[str], str]:
    """Return what names a file of each video, as text: paths would take a third of a plan."""
    before, after = str(folder("\0") / name).split("\0")
    return lambda video_id: f"{before}{video_id}{after}"


def _of_file(meta: Mapping[str, Any]) -> Verdict:
    if "failure" in meta:
        return Verdict(State.FAILED, str(meta["failure"]["error_class"]), adopt=True)
    return Verdict(State.DONE, adopt=True)
