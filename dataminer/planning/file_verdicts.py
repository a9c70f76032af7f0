"""Verdicts on videos by their files, which may be newer than rows, or gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

from dataminer.db.enums import VideoStatus
from dataminer.frames.images import ARCHIVE_FILE, seem_complete
from dataminer.frames.table import FRAMES_FILE
from dataminer.planning.frame_choice import FrameChoice, path_template
from dataminer.planning.request import PlanRequest
from dataminer.planning.verdicts import (
    DONE,
    FETCH_AGAIN,
    FORCED,
    KEPT,
    LOST,
    NEW,
    REPLACED,
    RETRIED,
    Verdict,
    VerdictState,
    in_state,
)
from dataminer.store.file_stats import times
from dataminer.store.layout import INFO_FILE
from dataminer.sync.jobs import results


@dataclass
class VideoVerdicts:
    """The verdicts on each video; those on its filter by project."""

    downloads: dict[str, Verdict] = field(default_factory=dict)
    extracts: dict[str, Verdict] = field(default_factory=dict)
    filters: dict[str, dict[str, Verdict]] = field(default_factory=dict)


class _StageFiles(NamedTuple):
    """The files that show how a stage ended, by video.

    Parameters
    ----------
    path : callable
        Names the file.
    judge : callable
        Judges by the file; returns None if it does not count.
    row_written : mapping of str to float
        When the matching row was written, in seconds since 1970.
    is_readable : callable
        Returns whether the next stage can read it.
    reasons : collection of str or None
        Reasons of due work for which a file may exist; None for all but forced work.
    """

    path: Callable[[str], str]
    judge: Callable[[str], Verdict | None]
    row_written: Mapping[str, float]
    is_readable: Callable[[str], bool]
    reasons: Collection[str] | None = None

    def may_exist(self, reason: str) -> bool:
        """Return whether the file may exist although its work is due for this reason."""
        return reason != FORCED if self.reasons is None else reason in self.reasons


class FileVerdicts:
    """Corrects verdicts by files: forwards if they are newer than rows, backwards if they are gone.

    Parameters
    ----------
    request : PlanRequest
        What is planned.
    frames : FrameChoice
        Which frames count.
    verdicts : VideoVerdicts
        The verdicts by rows, which are corrected.
    """

    def __init__(self, request: PlanRequest, frames: FrameChoice, verdicts: VideoVerdicts) -> None:
        self._records, self._store = request.records, request.store
        self._current, self._frames, self._verdicts = request.current, frames, verdicts
        self._in_archives = request.config.extract.frame_store == "tar"

    # ---- forwards, stage by stage

    def correct_downloads(self) -> None:
        """Correct the verdicts on downloads."""
        self._correct(self._verdicts.downloads, self._downloaded)

    def correct_extracts(self) -> None:
        """Correct the verdicts on extractions."""
        extracts = self._verdicts.extracts
        self._correct(extracts, self._extracted)
        self._accept_without_source()
        extracts |= {v: extracts[v]._replace(adopt=True) for v in self._frames.older}

    def correct_filters(self, project: str) -> None:
        """Correct the verdicts on a project's filters."""
        self._correct(self._verdicts.filters[project], self._filtered[project])

    def _correct(self, verdicts: dict[str, Verdict], files: _StageFiles) -> None:
        """Judge by files what rows call new, or what failed before its file was made.

        A row names the newest frames only, so frames may exist that it calls due.
        """
        failed = set(in_state(verdicts, VerdictState.FAILED))
        open_videos = [
            v
            for state in (VerdictState.DUE, VerdictState.WAITING)
            for v in in_state(verdicts, state)
        ]
        candidates = [*(v for v in open_videos if files.may_exist(verdicts[v].reason)), *failed]
        written = times([files.path(v) for v in candidates])
        for video_id, time in zip(candidates, written, strict=True):
            if time is None or (video_id in failed and time <= files.row_written[video_id]):
                continue
            found = files.judge(video_id)
            if found and not (video_id in failed and found.state is VerdictState.FAILED):
                verdicts[video_id] = found

    def _accept_without_source(self) -> None:
        """Accept frames whose source is being downloaded again for other frames."""
        downloads, extracts = self._verdicts.downloads, self._verdicts.extracts
        candidates = {
            v: verdict
            for v, verdict in downloads.items()
            if verdict.state is not VerdictState.DONE
            and verdict.reason not in (NEW, FETCH_AGAIN, FORCED)
            and self._records.videos[v].sha256
        }
        written = times([self._extracted.path(v) for v in candidates])
        for video_id, time in zip(candidates, written, strict=True):
            downloads[video_id] = DONE
            chosen = self._frames.has_chosen(self._records.videos[video_id])
            found = self._judge_frames(video_id) if time and not chosen else None
            if chosen or (found and found.state is VerdictState.DONE):
                extracts[video_id] = DONE
            else:
                downloads[video_id] = candidates[video_id]

    # ---- backwards: files that are gone, and needed

    def find_losses(self) -> None:
        """Call work due whose files are gone and needed, the last stage first."""
        verdicts = self._verdicts
        needed: set[str] | None = None  # None for all that are done
        for project, filters in verdicts.filters.items():
            files = self._filtered[project]
            self._lose(filters, files, None, (VerdictState.DONE, VerdictState.FAILED))
            self._retry_without_frames(filters)
            if self._in_archives:  # filtered tables point into them
                self._lose(filters, files._replace(path=self._archive), None)
            needed = (needed or set()) | set(in_state(filters, VerdictState.DUE))
        if verdicts.extracts:
            self._lose(verdicts.extracts, self._extracted, needed)
            if self._in_archives:
                archives = self._extracted._replace(path=self._archive)
                self._lose(verdicts.extracts, archives, needed)
            needed = set(in_state(verdicts.extracts, VerdictState.DUE))
        self._lose(verdicts.downloads, self._downloaded, needed)
        self._lose(verdicts.downloads, self._downloaded._replace(path=self._media), needed)

    def _retry_without_frames(self, filters: dict[str, Verdict]) -> None:
        """Call a filter due that failed on frames that are gone now."""
        extracts = self._verdicts.extracts
        failed = [
            v
            for v in in_state(filters, VerdictState.FAILED)
            if extracts[v].state is VerdictState.DONE
        ]
        written = times([self._extracted.path(v) for v in failed])
        lost = (v for v, time in zip(failed, written, strict=True) if time is None)
        filters.update(dict.fromkeys(lost, Verdict(VerdictState.DUE, LOST)))

    def _lose(
        self,
        verdicts: dict[str, Verdict],
        files: _StageFiles,
        needed: Collection[str] | None,
        states: Sequence[VerdictState] = (VerdictState.DONE,),
    ) -> None:
        """Call work due whose file is needed, and gone, damaged or not as its row describes it.

        The last comes from an older dump: its files are newer than their rows.
        """
        judged = [v for state in states for v in in_state(verdicts, state)]
        candidates = [v for v in judged if needed is None or v in needed]
        written = times([files.path(v) for v in candidates])
        for video_id, time in zip(candidates, written, strict=True):
            if time is None or (needed is not None and not files.is_readable(video_id)):
                verdicts[video_id] = Verdict(VerdictState.DUE, LOST)
            elif verdicts[video_id] == DONE and (
                time > files.row_written[video_id]
                or (files is self._extracted and video_id in self._frames.unrecorded)
            ):
                found = files.judge(video_id)
                if found is None or found.state is not VerdictState.DONE:
                    verdicts[video_id] = Verdict(VerdictState.DUE, REPLACED)

    # ---- the files of each stage

    @cached_property
    def _rows_written(self) -> dict[str, float]:
        return {video_id: row.updated for video_id, row in self._records.videos.items()}

    @cached_property
    def _downloaded(self) -> _StageFiles:
        return _StageFiles(
            path_template(self._store.video, INFO_FILE),
            self._judge_download,
            self._rows_written,
            lambda v: results.read_download(self._store.video(v)) is not None,
            (NEW, RETRIED),
        )

    @cached_property
    def _extracted(self) -> _StageFiles:
        return _StageFiles(
            self._path_in_frames(FRAMES_FILE),
            self._judge_frames,
            self._rows_written,
            lambda v: bool(_meta_of(self._extracted.path(v))),
        )

    @cached_property
    def _filtered(self) -> dict[str, _StageFiles]:
        return {project: self._filtered_files(project) for project in self._records.members}

    def _filtered_files(self, project: str) -> _StageFiles:
        table = path_template(partial(self._store.filtered, project), FRAMES_FILE)
        return _StageFiles(
            table,
            partial(self._judge_filtered, table),
            {v: row.updated for v, row in self._records.members[project].items()},
            lambda v: bool(_meta_of(table(v))),
            (NEW, RETRIED),
        )

    @cached_property
    def _archive(self) -> Callable[[str], str]:
        return self._path_in_frames(ARCHIVE_FILE)

    def _path_in_frames(self, name: str) -> Callable[[str], str]:
        """Return a function that names a file among the frames of the settings, for each video."""
        template, older = path_template(self._store.frames, "\1"), self._frames.older

        def path(video_id: str) -> str:
            if video_id in older:
                return f"{older[video_id]}/{name}"
            if self._verdicts.extracts.get(video_id, DONE).reason == KEPT:
                recipe = next(iter(self._frames.kept(video_id)))
            else:
                recipe = self._frames.recipe(video_id)
            return template(video_id).replace("\1", f"{recipe}/{name}")

        return path

    def _media(self, video_id: str) -> str:
        path = self._records.videos[video_id].video_path
        info = self._downloaded.path(video_id)
        return os.path.join(os.path.dirname(info), os.path.basename(path)) if path else info

    # ---- verdicts by one file

    def _judge_download(self, video_id: str) -> Verdict | None:
        folder = self._store.video(video_id)
        info = results.read_info_or_none(folder) or {}
        outcome = results.outcome_of_info(folder, info)
        if outcome is None:
            return None
        failed = outcome.status == VideoStatus.FAILED
        if failed and not self._current.match("download", outcome.columns["downloaded_with"]):
            return None
        self._frames.sha256[video_id] = info.get("sha256")
        return _by_meta(info)

    def _judge_frames(self, video_id: str) -> Verdict | None:
        if self._verdicts.downloads[video_id].state is not VerdictState.DONE:
            return None
        meta = _whole_meta(self._extracted.path(video_id))
        if meta is None or not self._current.match("extract", meta.get("made_with")):
            return None
        row = self._records.videos[video_id]
        if meta.get("fingerprint") != self._frames.recipe(video_id):
            return None
        recorded = row.extract_fingerprint is not None and row.status != VideoStatus.DOWNLOADED
        return _by_meta(meta)._replace(adopt=not recorded)

    def _judge_filtered(self, table: Callable[[str], str], video_id: str) -> Verdict | None:
        extract = self._verdicts.extracts[video_id]
        if extract.state is not VerdictState.DONE:
            return None
        meta = _whole_meta(table(video_id))
        if meta is None:
            return None
        kept = extract.reason == KEPT
        frames = meta.get("filtered_from") if kept else self._frames.recipe(video_id)
        expected = self._current.filter_fingerprint(frames, meta.get("seen", ()))
        return _by_meta(meta) if meta.get("fingerprint") == expected else None


def _meta_of(table: str) -> Mapping[str, Any] | None:
    return results.read_frames_meta(os.path.dirname(table))


def _whole_meta(table: str) -> Mapping[str, Any] | None:
    """Return the metadata of a table of frames, if all of these seem to be there."""
    meta = _meta_of(table)
    if meta is None or not ("failure" in meta or seem_complete(os.path.dirname(table), meta)):
        return None
    return meta


def _by_meta(meta: Mapping[str, Any]) -> Verdict:
    if "failure" in meta:
        return Verdict(VerdictState.FAILED, str(meta["failure"]["error_class"]), adopt=True)
    return Verdict(VerdictState.DONE, adopt=True)
