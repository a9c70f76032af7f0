"""The extraction of a video's frames, from its file and the settings to its recorded result."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from dataminer.config import Config
from dataminer.db.connection import transaction
from dataminer.db.enums import VideoStatus
from dataminer.errors import DataminerError, ErrorClass, FailedBefore
from dataminer.files.flushing import fsync_tree
from dataminer.files.publishing import publish_dir, remove_partials, staging_dir
from dataminer.provenance import fingerprints, recipes
from dataminer.provenance.fingerprints import recipe_id
from dataminer.store.file_stats import states
from dataminer.store.layout import INFO_FILE, Store
from dataminer.sync.claims import stage_rows, statements
from dataminer.sync.claims.execution import PATIENCE
from dataminer.sync.claims.owners import session_name
from dataminer.sync.jobs import candidate_frames, failures, results
from dataminer.sync.jobs.download import download_video
from dataminer.sync.jobs.failures import NotReady, SourceChanged
from dataminer.sync.tasks.run import describe_and_run
from dataminer.sync.tasks.task import StageTask, TaskOptions, TaskOutcome

log = logging.getLogger("dataminer")


def extract_video(config: Config, video_id: str, options: TaskOptions = TaskOptions()) -> None:
    """Extract the frames of one downloaded video, or pass its failure on.

    The video is downloaded again if its file has changed, and its row is corrected first if it does
    not know of the file.

    Raises
    ------
    NotReady
        If the video is not downloaded.
    """
    store = Store(config.store_path)
    candidate_frames.adopt_old_layout(store, video_id)
    row = candidate_frames.read_candidates(video_id, session=session_name(stage_rows.EXTRACT))
    if row and row.is_final and candidate_frames.frames_of(config, video_id, row)[1]:
        log.info("its frames stay as they are: %s", row.error)
        return
    if row and row.status == VideoStatus.PENDING:
        _record_download(config, video_id, options)
    try:
        outcome = _extract_current(config, video_id, options)
    except FailedBefore as error:
        _pass_on(video_id, extract_task(config, video_id, {}, options.threads), error)
        return
    failures.print_failure(video_id, outcome, config.project_names)


def _record_download(config: Config, video_id: str, options: TaskOptions) -> None:
    """Record a file that is in place, of which the row does not know."""
    if results.read_download(Store(config.store_path).video(video_id)) is None:
        raise NotReady(f"{video_id} is not downloaded yet")
    download_video(config, video_id, TaskOptions(options.patient))


def _extract_current(config: Config, video_id: str, options: TaskOptions) -> TaskOutcome:
    """Extract the frames of the present file; if it was written to, download it again first."""
    describe = partial(_describe, config, video_id, options)
    try:
        return describe_and_run(describe, config.monitor, patient=options.patient)
    except SourceChanged as error:
        log.warning("%s", error.message)
        download_video(config, video_id, TaskOptions(options.patient, forced=True))
        return describe_and_run(describe, config.monitor, patient=options.patient)


def _describe(config: Config, video_id: str, options: TaskOptions) -> StageTask:
    """Describe the extraction from the present file."""
    folder = Store(config.store_path).video(video_id)
    (info_state,) = states([folder / INFO_FILE])
    info = results.read_info_or_none(folder)
    failures.raise_failure(info)
    if info is None:
        raise NotReady(f"{video_id} is not downloaded yet")
    media = results.video_file(folder, info)
    (media_state,) = states([media])

    def read_input_state() -> object:
        now, file = states([folder / INFO_FILE, media])
        return now, file or media_state  # the file may be deleted once it was read

    return replace(
        extract_task(config, video_id, info, options.threads),
        forced=options.forced,
        read_input_state=read_input_state,
        input_state=(info_state, media_state),
    )


def link_frames(config: Config, video_id: str) -> None:
    """Link ``frames/VIDEO/frames.parquet`` to the frames that the settings choose from."""
    row = candidate_frames.read_candidates(video_id, session=session_name(stage_rows.EXTRACT))
    if row:
        folder, _ = candidate_frames.frames_of(config, video_id, row)
        recipes.link_newest(Store(config.store_path), video_id, folder.name, always=True)


def extract_task(config: Config, video_id: str, info: dict[str, Any], threads: int) -> StageTask:
    """Describe the extraction of one video's frames, given the contents of its ``info.json``."""
    from dataminer.stages.extract import stage

    store = Store(config.store_path)
    settings = config.extract.result_settings()
    fingerprint = fingerprints.of_extract(settings, info.get("sha256"))
    final = store.recipe(video_id, fingerprint)
    provenance = {"fingerprint": fingerprint, "made_with": recipe_id("extract", settings)}

    def make(out: Path) -> None:
        media = results.video_file(store.video(video_id), info)
        _check_media(media, info)
        stage.extract(
            media,
            out,
            video_id,
            config.extract,
            meta=provenance,
            source=info,
            threads=threads,
            progress=log.info,
        )

    return StageTask(
        stage=stage_rows.EXTRACT,
        key={"video_id": video_id},
        final=final,
        fingerprint=fingerprint,
        make=make,
        read=results.read_extract,
        write_failure=failures.failed_frames(provenance),
        fall_back=partial(results.remaining_frames, final, video_id),
        update_links=partial(recipes.link_newest, store, video_id, fingerprint),
    )


def _check_media(media: Path, info: dict[str, Any]) -> None:
    """Refuse a file that is no longer the one that was downloaded."""
    from dataminer.stages.download.stage import is_changed_link

    if media.is_symlink():
        message = f"{media} is a link, and what it leads to is not the video"
        raise SourceChanged(message, ErrorClass.CHANGED)
    if is_changed_link(media, info):
        message = f"{media} was written to since it was taken: it is a hard link to its source"
        raise SourceChanged(message, ErrorClass.CHANGED)


def _pass_on(video_id: str, task: StageTask, error: FailedBefore) -> None:
    """Write the empty frame table of a failed video, while its row is locked and says FAILED."""

    def publish(connection: Connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statements.LOCK_FAILED_VIDEO, {"video_id": video_id})
            row = cursor.fetchone()
        if not row or row[0] != VideoStatus.FAILED:
            raise DataminerError(
                f"video {video_id} is being tried again by another run", "run snakemake again"
            )
        publish_dir(staging, task.final)

    with staging_dir(task.final) as staging:
        assert task.write_failure
        task.write_failure(staging, error, error.error_class)
        fsync_tree(staging)
        transaction(publish, patience=PATIENCE, name=session_name(stage_rows.EXTRACT))
    remove_partials(task.final)
    log.info("%s", error)
