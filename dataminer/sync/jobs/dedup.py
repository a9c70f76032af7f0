"""The choice of a project's unique frames, from its filtered videos to its recorded result."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dataminer.config import Config
from dataminer.db.enums import ProjectVideoStatus
from dataminer.errors import DamagedFile, DataminerError, ErrorClass, PermanentError
from dataminer.frames.table import FRAMES_FILE
from dataminer.provenance import fingerprints
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.store.file_stats import states
from dataminer.store.layout import Store
from dataminer.sync.claims import projects, stage_rows, statements
from dataminer.sync.claims.execution import query
from dataminer.sync.claims.owners import session_name
from dataminer.sync.jobs import candidate_frames, results
from dataminer.sync.jobs.failures import NotReady
from dataminer.sync.jobs.filter import outputs_lost
from dataminer.sync.tasks.run import describe_and_run
from dataminer.sync.tasks.task import StageTask

if TYPE_CHECKING:
    from dataminer.stages.dedup.stage import Embedded

log = logging.getLogger("dataminer")


def dedup_project(config: Config, project: str, *, forced: bool = False, threads: int = 1) -> None:
    """Keep one frame of each group of near-duplicates; again if ``forced``."""
    project_id = projects.project_id_of(project)
    projects.refresh([project_id])  # whoever filtered last may have been killed before

    def describe() -> StageTask:
        return replace(_describe(config, project, project_id, threads), forced=forced)

    describe_and_run(describe, config.monitor)
    projects.refresh([project_id])


def _describe(config: Config, project: str, project_id: int, threads: int) -> StageTask:
    """Describe the choice of a project's unique frames."""
    from dataminer.stages.dedup.stage import Embedded

    store, members = Store(config.store_path), _ended_members(project)
    embeddings = _embeddings(config, members)

    def read_input_state() -> object:
        tables = states(
            store.filtered(project, member.video_id) / FRAMES_FILE for member in members
        )
        # without the times of embeddings, which are touched
        return tables, [state and state[:2] for state in states((embeddings or {}).values())]

    state = read_input_state()
    references = ReferencePictures.of(config.dedup, store.project(project))
    videos = [_read_filtered(store.filtered(project, m.video_id), m) for m in members]
    _discard_damaged(videos, project_id)
    made_from = [(video.video_id, video.fingerprint) for video in videos]
    embedded = None if embeddings is None else Embedded.of(embeddings)
    model = embedded.model if embedded else None
    settings = config.dedup.result_settings()
    pictures = references.fingerprint if references else None
    fingerprint = fingerprints.of_dedup(settings, made_from, model, references=pictures)

    def make(out: Path) -> None:
        _refuse_all_failed(project, videos)
        context = _Context(store.dedup(project), embedded, references, threads)
        _dedup(config, videos, out, context, {"fingerprint": fingerprint})

    return StageTask(
        stage=stage_rows.DEDUP,
        key={"project_id": project_id},
        final=store.dedup(project),
        fingerprint=fingerprint,
        make=make,
        read=results.read_dedup,
        read_input_state=read_input_state,
        input_state=state,
    )


class _Context(NamedTuple):
    """What frames are compared by and with, besides each other."""

    previous: Path
    embedded: Embedded | None
    references: ReferencePictures | None
    threads: int


def _dedup(
    config: Config,
    videos: Sequence[_FilteredVideo],
    out: Path,
    context: _Context,
    meta: dict[str, Any],
) -> None:
    from dataminer.stages.dedup import stage
    from dataminer.stages.dedup.near_references import Excluder

    references, embedded = context.references, context.embedded
    excluder, cache = None, Store(config.store_path).references
    if references:
        excluder = Excluder(references, cache, config.dedup, log.info, context.threads)
    usable = [video for video in videos if not video.failed]
    try:
        stage.dedup(
            [video.folder for video in usable],
            out,
            config.dedup,
            previous=context.previous,
            embedded=embedded,
            excluder=excluder,
            thumbnails=[_folder_of_thumbnails(config, video) for video in usable],
            meta=meta,
            progress=log.info,
            threads=context.threads,
        )
    except DamagedFile as error:
        if embedded and error.path in embedded.files.values():
            raise outputs_lost(error) from error
        raise


def _folder_of_thumbnails(config: Config, video: _FilteredVideo) -> Path:
    """Return the folder of the frames that a video's were chosen from, unless it is gone."""
    if video.filtered_from is None:
        return video.folder
    frames = Store(config.store_path).recipe(video.video_id, video.filtered_from)
    return frames if frames.is_dir() else video.folder


# ---- the videos of the project -------------------------------------------------------------------


class _EndedVideo(NamedTuple):
    """A video of a project, as its row describes it.

    Parameters
    ----------
    video_id, status : str
        The video, and its status in the project.
    filter_fingerprint, filtered_from : str or None
        The fingerprints of its filtered frames, and of the frames they were chosen from.
    """

    video_id: str
    status: str
    filter_fingerprint: str | None
    filtered_from: str | None


class _FilteredVideo(NamedTuple):
    """A video of a project, and the result of its filter.

    Parameters
    ----------
    video_id : str
        The video.
    folder : Path
        The folder of its filtered frames.
    fingerprint, filtered_from : str or None
        The fingerprints of these frames, or of the failure, and of those they were chosen from.
    failed : bool
        Whether it has no frames, even if the folder holds an earlier result.
    readable : bool
        Whether its table can be read, or it has failed.
    """

    video_id: str
    folder: Path
    fingerprint: str | None
    filtered_from: str | None
    failed: bool
    readable: bool = True


def _ended_members(project: str) -> list[_EndedVideo]:
    """Return the videos of a project that are filtered or have failed, in the order of their ids.

    Those that wait for their next attempt, or were added since the run was planned, are left out.
    """
    session = session_name(stage_rows.DEDUP)
    rows = query(statements.MEMBERS, {"project": project}, name=session)
    members = [_EndedVideo(*row) for row in rows]
    ended = [member for member in members if member.status in stage_rows.FILTER.done]
    if len(ended) < len(members):
        count = len(members) - len(ended)
        log.warning("left out %d videos that are not filtered yet: run snakemake again", count)
    if not ended:
        raise DataminerError(
            f"no video of project {project} has frames yet: all wait for a later run",
            f"`dataminer status --project {project}` shows why",
        )
    return ended


def _embeddings(config: Config, members: Iterable[_EndedVideo]) -> dict[str, Path] | None:
    """Return the file of each video's embeddings; None if frames are compared by their hashes."""
    from dataminer.stages.embed.frame_models import FrameModels

    models = FrameModels.of(config)
    if not models.compares:
        return None
    return {
        member.video_id: models.embedded(member.video_id, member.filtered_from)
        for member in members
        if member.filtered_from
    }


def _read_filtered(folder: Path, member: _EndedVideo) -> _FilteredVideo:
    fingerprint, source = member.filter_fingerprint, member.filtered_from
    if member.status == ProjectVideoStatus.FAILED:
        if fingerprint is None:  # older than the column
            fingerprint = (results.read_frames_meta(folder) or {}).get("fingerprint")
        return _FilteredVideo(member.video_id, folder, fingerprint, source, failed=True)
    meta: Mapping[str, Any] | None = results.read_frames_meta(folder)
    if meta is None:
        return _FilteredVideo(member.video_id, folder, None, source, failed=False, readable=False)
    failed, fingerprint = "failure" in meta, meta.get("fingerprint")
    return _FilteredVideo(member.video_id, folder, fingerprint, source, failed=failed)


def _discard_damaged(videos: Iterable[_FilteredVideo], project_id: int) -> None:
    """Stop if tables of filtered frames cannot be read; the next run makes them again."""
    damaged = [video for video in videos if not video.readable]
    for video in damaged:
        candidate_frames.discard_filtered(project_id, video.video_id, video.folder)
    if damaged:
        others = f", as are {len(damaged) - 1:,} more" if len(damaged) > 1 else ""
        raise NotReady(
            f"{damaged[0].folder / FRAMES_FILE} is damaged or gone{others}",
            "run snakemake again to restore them",
        )


def _refuse_all_failed(project: str, videos: Sequence[_FilteredVideo]) -> None:
    if all(video.failed for video in videos):
        raise PermanentError(
            f"all {len(videos)} videos of project {project} failed, so there is no frame to keep",
            ErrorClass.NO_FRAMES,
            "see `dataminer status` for the reasons",
        )
