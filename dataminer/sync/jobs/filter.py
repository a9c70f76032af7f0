"""The choice of a video's frames for a project, from their table to its recorded result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataminer.config import Config
from dataminer.db.enums import VideoStatus
from dataminer.errors import DamagedFile, InputChanged, PermanentError
from dataminer.files.publishing import remove
from dataminer.frames.table import FRAMES_FILE
from dataminer.provenance import fingerprints
from dataminer.provenance.fingerprints import recipe_id
from dataminer.store.file_stats import states
from dataminer.store.layout import Store
from dataminer.sync.claims import projects, stage_rows
from dataminer.sync.claims.owners import session_name
from dataminer.sync.jobs import candidate_frames, failures, results
from dataminer.sync.jobs.failures import FramesLost, ModelOutputsLost, NotReady
from dataminer.sync.tasks.run import describe_and_run
from dataminer.sync.tasks.task import StageTask, TaskOptions

if TYPE_CHECKING:
    from dataminer.stages.embed.frame_models import FrameModels
    from dataminer.stages.filter.scores import FrameScores

log = logging.getLogger("dataminer")


def filter_video(
    config: Config,
    project: str,
    video_id: str,
    options: TaskOptions = TaskOptions(),
    *,
    project_id: int | None = None,
) -> None:
    """Choose one video's frames for one project, whose id may be given.

    Raises
    ------
    NotReady
        If the video has no frames.
    """
    if project_id is None:
        project_id = projects.project_id_of(project, session=session_name(stage_rows.FILTER))
    key = {"project_id": project_id, "video_id": video_id}

    def describe() -> StageTask:
        folder, meta = _frames_or_failure(config, project, video_id)
        filtering = _Filtering.of(config, video_id, folder, meta)
        return replace(filtering.task(project, key), forced=options.forced)

    try:
        describe_and_run(describe, config.monitor, patient=options.patient)
    except FramesLost as error:
        candidate_frames.discard_frames(video_id, error.folder)
        raise


@dataclass(frozen=True)
class _Filtering:
    """The filtering of one video's frames, or of its failure.

    Parameters
    ----------
    config, video_id : Config, str
        The settings and the video.
    folder, meta : Path, dict
        The folder of its frames, and what is known about them or their failure.
    models : FrameModels
        The models whose outputs are used.
    """

    config: Config
    video_id: str
    folder: Path
    meta: Mapping[str, Any]
    models: FrameModels

    @classmethod
    def of(cls, config: Config, video_id: str, folder: Path, meta: Mapping[str, Any]) -> _Filtering:
        from dataminer.stages.embed.frame_models import FrameModels

        return cls(config, video_id, folder, meta, FrameModels.of(config))

    def task(self, project: str, key: Mapping[str, Any]) -> StageTask:
        """Describe it as a task."""
        state = self.read_input_state()
        if "failure" not in self.meta and results.read_frames_meta(self.folder) != self.meta:
            raise InputChanged(self.folder)
        scores = self._read_scores()
        seen = [score.fingerprint for score in scores]
        settings = self.config.filter.result_settings()
        source = self.meta.get("fingerprint")
        fingerprint = fingerprints.of_filter(settings, source, seen)
        provenance = {
            "fingerprint": fingerprint,
            "made_with": recipe_id("filter", settings),
            "filtered_from": source,
        }
        known = {"seen": seen, "notes": self.meta.get("notes")}  # notes are those of the source
        meta = provenance | {name: value for name, value in known.items() if value}
        return StageTask(
            stage=stage_rows.FILTER,
            key=key,
            final=self._store.filtered(project, self.video_id),
            fingerprint=fingerprint,
            make=lambda out: self._make(out, meta, scores, state),
            read=results.read_filter,
            write_failure=failures.failed_frames(provenance),
            read_input_state=self.read_input_state,
            input_state=state,
        )

    def read_input_state(self) -> object:
        """Return the state of the frames' table and of the models' outputs."""
        outputs = self.models.model_fingerprints(self.video_id, self.folder.name)
        return states([self.folder / FRAMES_FILE]), outputs

    @cached_property
    def _store(self) -> Store:
        return Store(self.config.store_path)

    def _read_scores(self) -> list[FrameScores]:
        try:
            return self.models.frame_scores(self.video_id, self.meta)
        except DamagedFile as error:
            raise outputs_lost(error) from error

    def _make(
        self, out: Path, meta: dict[str, Any], scores: Sequence[FrameScores], state: object
    ) -> None:
        from dataminer.stages.filter import stage

        failures.raise_failure(dict(self.meta))
        try:
            result = stage.filter_frames(
                self.folder, out, self.config.filter, meta=meta, scores=scores
            )
        except PermanentError as error:
            replaced = self.read_input_state() != state
            if replaced or results.read_download(self._store.video(self.video_id)) is None:
                raise  # nothing is lost, or there is no file to extract it from again
            raise _frames_lost(self.video_id, error, self.folder) from error
        log.info("%d frames passed, rejected: %s", result.passed, result.rejected or "none")


def _frames_or_failure(config: Config, project: str, video_id: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a video's frames, and what is known about them or their failure.

    Raises
    ------
    NotReady
        If there are none yet.
    """
    session = session_name(stage_rows.FILTER)
    row = candidate_frames.read_candidates(video_id, session=session, project=project)
    if row is None:
        raise NotReady(f"{video_id} has no row")
    folder, meta = candidate_frames.frames_of(config, video_id, row)
    extracted = meta is not None and "failure" not in meta
    failed = row.status == VideoStatus.FAILED
    if failed and row.extract_fingerprint is None and not extracted:  # the download failed
        info = results.read_info_or_none(Store(config.store_path).video(video_id)) or {}
        if "failure" in info:
            return folder, info | {"fingerprint": None}
        if meta is None:
            return folder, _failure_of(row)
    if failed and row.extract_fingerprint == folder.name and (extracted or meta is None):
        return folder, _failure_of(row)  # the files of the failure are gone, or older
    if meta is None:
        if (folder / FRAMES_FILE).exists():  # damaged
            candidate_frames.discard_frames(video_id, folder)
        raise NotReady(f"{video_id} has no frames yet")
    return folder, meta


def _failure_of(row: candidate_frames.CandidateFrames) -> dict[str, Any]:
    """Return the failure that a row records, in the form of files."""
    message, _, hint = (row.error or "").partition(". Next: ")
    failure = {"message": message, "error_class": row.error_class, "hint": hint}
    return {"failure": failure, "fingerprint": None}


def _frames_lost(video_id: str, error: PermanentError, folder: Path) -> FramesLost:
    """Return the error for frames that cannot be read, and are extracted again."""
    message = f"frames of {video_id} are lost: {error.message}"
    lost = FramesLost(message, error.error_class, "run snakemake again: they are made again")
    lost.folder = folder
    return lost


def outputs_lost(error: DamagedFile) -> ModelOutputsLost:
    """Remove a damaged file of model outputs, which is then made again; return the error."""
    remove(Path(error.path))
    hint = "run snakemake again: it is made again"
    return ModelOutputsLost(error.message, error.error_class, hint)
