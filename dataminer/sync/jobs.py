"""What the rules' scripts call: one function a stage, from its settings to its recorded result."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dataminer.config import Config
from dataminer.db.connection import transaction
from dataminer.db.enums import VideoStatus
from dataminer.environment import connecting_only
from dataminer.errors import DataminerError, ErrorClass, PermanentError
from dataminer.files import (
    fingerprint,
    fsync_tree,
    publish_dir,
    remove_partials,
    staging_dir,
)
from dataminer.frames import FRAMES_FILE, read_meta
from dataminer.stages import VERSIONS, made_with, policy_mark
from dataminer.stages.weights import model_of, weights_sha256
from dataminer.store import Store
from dataminer.sync import budget, claims, projects, results, shards, stages
from dataminer.sync import sql as statements
from dataminer.sync.heartbeat import Interrupted
from dataminer.sync.work import Outcome, Work, perform
from dataminer.urls import SourceUrl, mask_text

log = logging.getLogger("dataminer")

_LONGEST_MESSAGE = 500
EXIT_INTERRUPTED = 143  # 128 + SIGTERM, as a shell reports it


class _Formatter(logging.Formatter):
    """Masks URLs, which libraries put into the messages of their errors."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return mask_text(super().format(record))


@contextmanager
def logged(path: str) -> Iterator[None]:
    """Send the package's messages to a rule's log file; end the process on an error it can name.

    What runs in it connects to the database and never starts it.

    Parameters
    ----------
    path : str
        The rule's log file.

    Raises
    ------
    SystemExit
        With the error's sentence (Snakemake shows it), or 143 when the process was asked to end.
        What no sentence is known for is in the log, with its traceback.
    """
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with connecting_only():
            yield
    except DataminerError as error:
        log.error("%s", error)
        sys.exit(f"dataminer: {error}")
    except Interrupted as signal:
        log.warning("asked to end (%s): the claim was given back", signal)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        log.exception("failed")
        message = mask_text(f"{type(error).__name__}: {' '.join(str(error).split())}")
        sys.exit(f"dataminer: {message[:_LONGEST_MESSAGE]}; {path} has all of it")
    finally:
        root.removeHandler(handler)
        handler.close()


def download(config: Config, video_id: str) -> None:
    """Fetch one video into the store."""
    outcome = perform(download_work(config, video_id), config.monitor)
    _tell_failure(f"video {video_id}", outcome)
    projects.refresh_of_video(video_id)


def download_work(config: Config, video_id: str) -> Work:
    """Describe the download of one video."""
    from dataminer.stages import download as stage

    url = _url_of(video_id)
    source = _identity(url)
    settings = None if source else config.download.result_settings()
    mark = fingerprint("download", stage.VERSION, url.reveal(), source, settings)
    final = Store(config.store_path).video(video_id)
    policy = results.judged_by(final, policy_mark(config.download.policy))
    marks = {
        "fingerprint": mark,
        "made_with": made_with("download", settings),
        "policy": policy,
    }

    def make(out: Path) -> None:
        fetch = partial(
            stage.download,
            url,
            out,
            video_id,
            config.download,
            keep=final.parent,
            meta=marks,
            progress=log.info,
        )
        if source:
            fetch()
        else:
            budget.within(config.download.budget, url.reveal(), f"download {video_id}", fetch)

    return Work(
        stage=stages.DOWNLOAD,
        key={"video_id": video_id},
        final=final,
        fingerprint=mark,
        make=make,
        read=partial(results.read_judged, policy=policy),
        write_failure=results.failed_info(marks),
    )


def extract(config: Config, video_id: str, threads: int = 1) -> None:
    """Take the frames out of one downloaded video, or pass its failure on."""
    row = claims.look(stages.EXTRACT, {"video_id": video_id})
    if row and row.status == VideoStatus.PENDING:  # it does not know of the file that is there
        perform(download_work(config, video_id), config.monitor)
    info = results.read_info(Store(config.store_path).video(video_id)) or {}
    work = extract_work(config, video_id, info, threads)
    try:
        results.raise_failure(info)
    except PermanentError as error:
        _pass_on(video_id, work, error)
        return
    _tell_failure(f"video {video_id}", perform(work, config.monitor))
    projects.refresh_of_video(video_id)


def extract_work(config: Config, video_id: str, info: dict[str, Any], threads: int) -> Work:
    """Describe the extraction of one video's frames.

    Parameters
    ----------
    config : Config
        The settings.
    video_id : str
        The video.
    info : dict
        What its ``info.json`` says.
    threads : int
        How many threads it may use.
    """
    from dataminer.stages import extract as stage

    store = Store(config.store_path)
    settings = config.extract.result_settings()
    # not of titles and the like: they are copied into the table, and decode to the same frames
    mark = fingerprint("extract", stage.VERSION, settings, info.get("sha256"))
    marks = {"fingerprint": mark, "made_with": made_with("extract", settings)}

    def make(out: Path) -> None:
        stage.extract(
            store.video(video_id) / info["video"],
            out,
            video_id,
            config.extract,
            meta=marks,
            source=info,
            threads=threads,
            progress=log.info,
        )

    return Work(
        stage=stages.EXTRACT,
        key={"video_id": video_id},
        final=store.frames(video_id),
        fingerprint=mark,
        make=make,
        read=results.read_extract,
        write_failure=results.failed_frames(marks),
    )


def filter_frames(config: Config, project: str, video_id: str) -> None:
    """Choose one video's frames for one project."""
    from dataminer.stages import filter as stage
    from dataminer.stages.looking import Looking
    from dataminer.stages.looks import source_mark

    store = Store(config.store_path)
    frames_dir = store.frames(video_id)
    source = read_meta(frames_dir / FRAMES_FILE)
    settings = config.filter.result_settings()
    looks = Looking.of(config).looks(video_id, source)
    seen = [look.mark for look in looks]
    origin = source_mark(source.get("fingerprint"), seen)
    mark = fingerprint("filter", stage.VERSION, settings, origin)
    marks = {"fingerprint": mark, "made_with": made_with("filter", settings)}

    def make(out: Path) -> None:
        results.raise_failure(source)
        meta = marks | ({"seen": seen} if seen else {})
        result = stage.filter_frames(frames_dir, out, config.filter, meta=meta, looks=looks)
        log.info("%d frames passed, rejected: %s", result.passed, result.rejected or "none")

    project_id = projects.id_of(project)
    work = Work(
        stage=stages.FILTER,
        key={"project_id": project_id, "video_id": video_id},
        final=store.filtered(project, video_id),
        fingerprint=mark,
        make=make,
        read=results.read_filter,
        write_failure=results.failed_frames(marks),
    )
    perform(work, config.monitor)
    projects.refresh([project_id], refiltered=True)


def dedup(config: Config, project: str) -> None:
    """Keep one frame of each group of near-duplicates of a project."""
    from dataminer.stages import dedup as stage
    from dataminer.stages.looking import Looking

    store = Store(config.store_path)
    final = store.dedup(project)
    tables = _filtered_tables(store, project)
    metas = [read_meta(table) for table in tables]
    inputs = [
        (table.parent.name, meta.get("fingerprint"))
        for table, meta in zip(tables, metas, strict=True)
    ]
    looking = Looking.of(config)
    files = {table.parent.name: looking.embeddings(table.parent.name) for table in tables}
    embedded = stage.Embedded.of(files) if looking.compares else None
    by_model = [embedded.model] if embedded else []
    mark = fingerprint("dedup", stage.VERSION, config.dedup.result_settings(), inputs, *by_model)

    def make(out: Path) -> None:
        _refuse_all_failed(project, metas)
        folders = [table.parent for table in tables]
        stage.dedup(
            folders,
            out,
            config.dedup,
            previous=final,
            embedded=embedded,
            meta={"fingerprint": mark},
            progress=log.info,
        )

    project_id = projects.id_of(project)
    key = {"project_id": project_id}
    work = Work(stages.DEDUP, key, final, mark, make, results.read_dedup)
    perform(work, config.monitor)
    projects.refresh([project_id])


def detect(
    config: Config, project: str, weights: Path, contact_sheet: Path, threads: int = 1
) -> None:
    """Annotate the unique frames of a project, and draw a sample of them as ``contact_sheet``."""
    from dataminer.export.contact_sheet import contact_sheet as draw
    from dataminer.stages import detect as stage
    from dataminer.stages import shards as kept

    store = Store(config.store_path)
    weights = model_of(weights)
    source = read_meta(store.dedup(project) / FRAMES_FILE)
    mark = fingerprint(
        "detect",
        stage.VERSION,
        VERSIONS["annotations"],
        config.detect.result_settings(),
        weights_sha256(weights),
        source.get("fingerprint"),
    )
    plans: list[kept.Plan] = []

    def make(out: Path) -> None:
        plans.append(shards.plan(config, project, weights))
        result = stage.detect(
            plans[-1],
            out,
            meta={"fingerprint": mark, "project": project},
            videos=_Provenance(store),
            threads=threads,
            progress=log.info,
        )
        log.info("%d objects in %d images: %s", result.annotations, result.images, result.per_class)

    key = {"project_id": projects.id_of(project)}
    final = store.detect(project)
    perform(Work(stages.DETECT, key, final, mark, make, results.read_detect), config.monitor)
    for plan in plans:
        kept.prune(plan)
    draw(final, contact_sheet)
    projects.refresh([key["project_id"]])


class _Provenance(Mapping[str, Mapping[str, Any]]):
    """The videos' ``info.json``, read when asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, video_id: str) -> Mapping[str, Any]:
        info = results.read_info(self._store.video(video_id))
        if info is None:
            raise KeyError(video_id)
        return info

    def __iter__(self) -> Iterator[str]:
        return (folder.name for folder in self._store.video("x").parent.iterdir())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _tell_failure(what: str, outcome: Outcome) -> None:
    """Let the run's own output name a failure that does not stop it."""
    if outcome.status == VideoStatus.FAILED:
        print(f"dataminer: {what} FAILED: {outcome.columns['error']}", file=sys.stderr)


def _url_of(video_id: str) -> SourceUrl:
    def work(connection: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statements.URL_OF_VIDEO, {"video_id": video_id})
            return cursor.fetchone()

    row = transaction(work, patience=claims.PATIENCE, name=f"download {video_id}")
    if row is None:
        raise DataminerError(
            f"the database knows no video {video_id}", "add it with `dataminer add-video`"
        )
    return SourceUrl(row[0])


def _identity(url: SourceUrl) -> list[Any] | None:
    """Return what tells one state of a local file from another; None for a remote source."""
    if not url.is_path:
        return None
    path = url.reveal()
    try:
        stat = Path(path).stat()
    except OSError:
        return [path]
    return [path, stat.st_size, stat.st_mtime_ns]


def _pass_on(video_id: str, work: Work, error: PermanentError) -> None:
    """Write a failed video's empty frame table while its row is locked and says FAILED."""

    def publish(connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statements.HOLD_FAILED_VIDEO, {"video_id": video_id})
            row = cursor.fetchone()
        if not row or row[0] != VideoStatus.FAILED:
            raise DataminerError(
                f"video {video_id} is being tried again by another run", "run snakemake again"
            )
        publish_dir(staging, work.final)

    with staging_dir(work.final) as staging:
        assert work.write_failure
        work.write_failure(staging, error, error.error_class)
        fsync_tree(staging)
        transaction(publish, patience=claims.PATIENCE, name=f"extract {video_id}")
    remove_partials(work.final)
    log.error("%s", error)


def _filtered_tables(store: Store, project: str) -> list[Path]:
    """Return the filtered tables of a project's videos, in the order of their ids.

    A video that was added since the run was planned has none yet, and waits for the next run.
    """

    def ask(connection: Any) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(statements.MEMBERS, {"project": project})
            return [row[0] for row in cursor.fetchall()]

    members = transaction(ask, patience=claims.PATIENCE, name=f"dedup {project}")
    tables = [store.filtered(project, video_id) / FRAMES_FILE for video_id in members]
    there = [table for table in tables if table.exists()]
    if len(there) < len(tables):
        log.warning("%d videos are not filtered yet: run snakemake again", len(tables) - len(there))
    return there


def _refuse_all_failed(project: str, metas: list[dict[str, Any]]) -> None:
    if all("failure" in meta for meta in metas):
        raise PermanentError(
            f"all {len(metas)} videos of project {project} failed, so there is no frame to keep",
            ErrorClass.NO_FRAMES,
            "see `dataminer status` for the reasons",
        )
