"""The download of a video, from its row and the settings to its recorded result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dataminer.config import Config
from dataminer.db.enums import VideoStatus
from dataminer.errors import DataminerError, ErrorClass
from dataminer.provenance import fingerprints
from dataminer.provenance.fingerprints import policy_id, recipe_id
from dataminer.store.layout import Store
from dataminer.sync.claims import claims, stage_rows, statements
from dataminer.sync.claims.execution import query
from dataminer.sync.claims.owners import session_name
from dataminer.sync.jobs import candidate_frames, failures, results
from dataminer.sync.rate_limit.permits import PermitStock
from dataminer.sync.rate_limit.shared import SharedRateLimiter, fetch_within_limits
from dataminer.sync.tasks.run import describe_and_run
from dataminer.sync.tasks.task import (
    SINGLE_CLAIM,
    Deleted,
    Keeper,
    StageTask,
    TaskOptions,
    TaskOutcome,
)
from dataminer.urls import SourceUrl

log = logging.getLogger("dataminer")


class VideoSource(NamedTuple):
    """The source of a video.

    Parameters
    ----------
    url : SourceUrl
        Its link or path.
    again : bool
        Whether it is to be fetched again, even if its file is there.
    given : bool
        Whether the user named it; else only the files of the store do.
    """

    url: SourceUrl
    again: bool
    given: bool

    @classmethod
    def of_row(cls, url: str, fetched_with: str | None, origin: str | None) -> VideoSource:
        """Return the source that a row names."""
        again = fetched_with == stage_rows.FETCH_AGAIN
        return cls(SourceUrl(url), again, origin != statements.FROM_FILES)


class ClaimedDownload(NamedTuple):
    """A claim on the download of a video, and the source that its row named."""

    held: claims.Claim
    source: VideoSource


def claim_downloads(config: Config, videos: Iterable[str]) -> dict[str, ClaimedDownload]:
    """Claim in one statement those of some videos that have no files yet."""
    store = Store(config.store_path)
    new = [video_id for video_id in videos if not store.video(video_id).exists()]
    return {
        video_id: ClaimedDownload(held, VideoSource.of_row(*row))
        for video_id, (held, row) in (claims.claim_new(new) if new else {}).items()
    }


def download_video(
    config: Config,
    video_id: str,
    options: TaskOptions = TaskOptions(),
    *,
    keeper: Keeper = SINGLE_CLAIM,
    stock: PermitStock | None = None,
    claimed: ClaimedDownload | None = None,
) -> None:
    """Fetch one video into the store.

    Parameters
    ----------
    config, video_id, options : Config, str, TaskOptions
        The settings, the video, and how to fetch it.
    keeper : Keeper
        Keeps the claim alive, and records the result.
    stock : PermitStock, optional
        The permits that the downloads of this process share.
    claimed : ClaimedDownload, optional
        The claim, if the video is claimed already.
    """
    held, source = claimed or (None, None)

    def describe() -> StageTask:
        nonlocal source
        given, source = source, None  # if its input changes, the row is read again
        task = download_task(config, video_id, given, stock)
        return replace(task, forced=task.forced or options.forced)

    outcome = describe_and_run(
        describe, config.monitor, patient=options.patient, keeper=keeper, held=held
    )
    failures.print_failure(video_id, outcome, config.project_names)


def download_task(
    config: Config,
    video_id: str,
    source: VideoSource | None = None,
    stock: PermitStock | None = None,
) -> StageTask:
    """Describe the download of one video; its source is read from its row unless it is given."""
    source = source or _read_source(video_id)
    file_state = _file_state(source.url)
    settings = None if file_state else config.download.result_settings()
    fingerprint = fingerprints.of_download(source.url.reveal(), file_state, settings)
    store = Store(config.store_path)
    final = store.video(video_id)
    provenance = {
        "fingerprint": fingerprint,
        "made_with": recipe_id("download", settings),
        "policy": results.judged_by(final, policy_id(config.download.policy)),
    }
    fetch = _Fetch(source.url, video_id, _fetcher(config, video_id, source, provenance, stock))
    return StageTask(
        stage=stage_rows.DOWNLOAD,
        key={"video_id": video_id},
        final=final,
        fingerprint=(None if file_state else _fetched_fingerprint(final)) or fingerprint,
        make=fetch.make,
        read=partial(results.read_judged, policy=provenance["policy"]),
        write_failure=failures.failed_info(provenance),
        fall_back=partial(_fall_back, store, video_id),
        forced=source.again,
        read_input_state=lambda: _file_state(fetch.url) or fetch.url,
        input_state=file_state or source.url,
    )


def _fetched_fingerprint(folder: Path) -> str | None:
    """Return the fingerprint of a fetched video, which stays even if the settings have changed."""
    existing = results.read_download(folder)
    fetched = existing is not None and existing.status == VideoStatus.DOWNLOADED
    return existing.fingerprint if existing and fetched else None


@dataclass
class _Fetch:
    """Fetches a video, and notices if its row names another link after a failure."""

    url: SourceUrl
    video_id: str
    fetch: Callable[[Path], object]

    def make(self, out: Path) -> None:
        """Fetch the video into a folder."""
        try:
            self.fetch(out)
        except Exception:
            self.url = _read_source(self.video_id).url  # it may have been signed again meanwhile
            raise


def _fetcher(
    config: Config,
    video_id: str,
    source: VideoSource,
    provenance: dict[str, Any],
    stock: PermitStock | None,
) -> Callable[[Path], object]:
    """Return what fetches a video into a folder: a remote one within the rate limits."""
    from dataminer.stages.download.stage import download

    url, settings = source.url, config.download
    fetch = partial(
        download,
        url,
        video_id=video_id,
        settings=settings,
        trusted=source.given,
        partial_folder=Store(config.store_path).video(video_id).parent,
        meta=provenance,
        progress=log.info,
    )
    if url.is_path:
        return fetch
    session = session_name(stage_rows.DOWNLOAD)

    def fetch_remote(out: Path) -> None:
        def attempt(limiter: SharedRateLimiter) -> None:
            fetch(out, limiter=limiter)

        fetch_within_limits(settings.budget, url.reveal(), session, attempt, stock)

    return fetch_remote


def _fall_back(
    store: Store, video_id: str, error: DataminerError, error_class: ErrorClass
) -> TaskOutcome | None:
    candidate_frames.adopt_old_layout(store, video_id)
    return results.remaining_video(store, video_id, error, error_class)


def _read_source(video_id: str) -> VideoSource:
    key, session = {"video_id": video_id}, session_name(stage_rows.DOWNLOAD)
    rows = query(statements.SOURCE_OF_VIDEO, key, name=session)
    if not rows:
        raise Deleted(key)
    return VideoSource.of_row(*rows[0])


def _file_state(url: SourceUrl) -> list[Any] | None:
    """Return what distinguishes one state of a local file from another; None for a remote one."""
    if not url.is_path:
        return None
    path = url.reveal()
    try:
        stat = Path(path).stat()
    except OSError:
        return [path]
    return [path, stat.st_size, stat.st_mtime_ns]
