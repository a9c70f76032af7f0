"""What the rules' scripts call: one function a stage, from its settings to its recorded result."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from dataminer.config import Config
from dataminer.db.connection import transaction
from dataminer.db.enums import ProjectVideoStatus, VideoStatus
from dataminer.errors import (
    DamagedFile,
    DataminerError,
    ErrorClass,
    FailedBefore,
    InputChanged,
    PermanentError,
    TransientError,
    brief,
    runnable,
)
from dataminer.files import (
    fsync_tree,
    names_in,
    publish_dir,
    remove,
    remove_partials,
    staging_dir,
)
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, PROVENANCE, read_table
from dataminer.permissions import explain
from dataminer.process import connecting_only
from dataminer.provenance import fingerprints, recipes
from dataminer.provenance.fingerprints import policy_id, recipe_id
from dataminer.store.file_stats import states
from dataminer.store.layout import INFO_FILE, Store
from dataminer.sync.claims import claims, projects, stage_rows, statements
from dataminer.sync.claims.heartbeat import Interrupted, interruptible
from dataminer.sync.jobs import chosen, results, shards
from dataminer.sync.jobs.task import (
    ALONE,
    Deleted,
    Keeper,
    StageTask,
    TaskOutcome,
    perform_described,
)
from dataminer.sync.rate_limit import shared
from dataminer.text import cut, inert_lines, tell
from dataminer.urls import SourceUrl, mask_text
from dataminer.vision.weights import model_of, weights_sha256

log = logging.getLogger("dataminer")

_LONGEST_MESSAGE = 500
EXIT_INTERRUPTED = 143  # 128 + SIGTERM, as a shell reports it


_VIDEO: ContextVar[str] = ContextVar("video", default="")
_OWN_LOGS: ContextVar[Path | None] = ContextVar("own_logs", default=None)
_OWN_LOG: ContextVar[_OwnLog | None] = ContextVar("own_log", default=None)


@dataclass(frozen=True)
class Manner:
    """How a stage is done for one video.

    Parameters
    ----------
    patient : bool
        Wait while another process does it.
    forced : bool
        Make the result anew, whatever there is.
    threads : int
        How many threads it may use.
    """

    patient: bool = True
    forced: bool = False
    threads: int = 1


class NotReady(DataminerError):
    """A video waits for what comes before this stage, which failed in passing."""


class SourceChanged(TransientError, NotReady):
    """A video's file was written to by others since it was taken: it is taken again."""


class FramesLost(TransientError, NotReady):
    """Some of a video's frames are gone: they are taken out again by the next run."""

    folder: Path
    """Where they were."""


class SeenLost(TransientError, NotReady):
    """What a model saw in a video's frames cannot be read: it looks again in the next run."""


class _Formatter(logging.Formatter):
    """Names the video in a batch's log; masks URLs, which libraries put into their messages."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(about)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        video_id = _VIDEO.get()
        record.about = f"{video_id}: " if video_id else ""
        return inert_lines(mask_text(super().format(record)))


@contextmanager
def about(video_id: str) -> Iterator[None]:
    """Have what a batch logs in this block name its video; what is worth a look gets its own log.

    That is ``VIDEO.log``, if anything from a warning upwards was logged; else an older one goes.
    """
    folder = _OWN_LOGS.get()
    if folder is None:
        yield
        return
    own = _OwnLog()
    tokens = _VIDEO.set(video_id), _OWN_LOG.set(own)
    try:
        yield
    finally:
        _VIDEO.reset(tokens[0])
        _OWN_LOG.reset(tokens[1])
        own.write(folder / f"{video_id}.log")


class _OwnLogs(logging.Handler):
    """Passes on what is logged to the log of the video that this thread works on."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        if own := _OWN_LOG.get():
            own.add(self.format(record), record.levelno)


class _OwnLog:
    """Keeps what is logged of one video."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._worth = False

    def add(self, line: str, level: int) -> None:
        """Keep a line."""
        self._lines.append(line)
        self._worth |= level >= logging.WARNING

    def write(self, path: Path) -> None:
        """Write it to a file if it is worth it."""
        try:
            if self._worth:
                path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")
            else:
                path.unlink(missing_ok=True)
        except OSError as error:  # no reason to lose what others do at the same time
            log.warning("%s cannot be written: %s", path, error)


@contextmanager
def logged(path: str, own_logs: Path | None = None) -> Iterator[None]:
    """Send the package's messages to a rule's log file; end the process on an error it can name.

    What runs in it connects to the database and never starts it.

    Parameters
    ----------
    path : str
        The rule's log file.
    own_logs : Path, optional
        For a batch: the folder in which a video's own log goes, if it has something to tell.

    Raises
    ------
    SystemExit
        With the error's sentence (Snakemake shows it), or 143 when the process was asked to end.
        What no sentence is known for is in the log, with its traceback.
    """
    _OWN_LOGS.set(own_logs)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Formatter())
    handlers = [handler, *([_OwnLogs()] if own_logs else [])]
    root = logging.getLogger()
    for one in handlers:
        root.addHandler(one)
    root.setLevel(logging.INFO)
    try:
        with connecting_only(), interruptible():
            yield
    except DataminerError as error:
        log.error("%s", error)
        sys.exit(f"dataminer: {brief(str(error))}")
    except Interrupted as signal:
        log.warning("asked to end (%s): what was in progress was given back", signal)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        known = explain(error) if isinstance(error, OSError) else None
        if known:
            log.error("%s", known)
            sys.exit(f"dataminer: {known}")
        log.exception("failed")
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        message = cut(inert_lines(mask_text(message)), _LONGEST_MESSAGE)
        sys.exit(f"dataminer: {message}; {path} has all of it")
    finally:
        for one in handlers:
            root.removeHandler(one)
            one.close()


class VideoSource(NamedTuple):
    """Where a video comes from.

    Parameters
    ----------
    url : SourceUrl
        Its link or path.
    again : bool
        Whether it is to be fetched again, whatever is there.
    given : bool
        Whether the user named it, and not the store's files alone.
    """

    url: SourceUrl
    again: bool
    given: bool

    @classmethod
    def of_row(cls, url: str, fetched_with: str | None, origin: str | None) -> VideoSource:
        """Return what a row says."""
        again = fetched_with == stage_rows.FETCH_AGAIN
        return cls(SourceUrl(url), again, origin != statements.FROM_FILES)


class Claimed(NamedTuple):
    """A video that is claimed for its download.

    Parameters
    ----------
    held : Claim
        The claim.
    source : VideoSource
        Where it comes from.
    """

    held: claims.Claim
    source: VideoSource


def claim_downloads(config: Config, videos: Iterable[str]) -> dict[str, Claimed]:
    """Claim those of some videos that nothing is there of yet, in one statement."""
    store = Store(config.store_path)
    new = [video_id for video_id in videos if not store.video(video_id).exists()]
    return {
        video_id: Claimed(held, VideoSource.of_row(*row))
        for video_id, (held, row) in (claims.claim_new(new) if new else {}).items()
    }


def download(
    config: Config,
    video_id: str,
    manner: Manner = Manner(),
    *,
    keeper: Keeper = ALONE,
    stock: shared.Stock | None = None,
    claimed: Claimed | None = None,
) -> None:
    """Fetch one video into the store.

    Parameters
    ----------
    config : Config
        The settings.
    video_id : str
        The video.
    manner : Manner
        How it is done.
    keeper : Keeper
        Keeps its claim, and records the result.
    stock : Stock, optional
        Permits that the downloads of this process share.
    claimed : Claimed, optional
        Its claim, if it is claimed already.
    """
    given = [claimed] if claimed else []

    def describe() -> StageTask:
        source = given.pop().source if given else None
        work = download_work(config, video_id, source, stock)
        return replace(work, forced=work.forced or manner.forced)

    held = claimed.held if claimed else None
    outcome = perform_described(
        describe, config.monitor, patient=manner.patient, keeper=keeper, held=held
    )
    _tell_failure(video_id, outcome, config.project_names)


def download_work(
    config: Config,
    video_id: str,
    source_of: VideoSource | None = None,
    stock: shared.Stock | None = None,
) -> StageTask:
    """Describe the download of one video; its source is looked up unless it is given."""
    from dataminer.stages.download.stage import download as fetch_video

    url, again, given = source_of or _source_of(video_id)
    source = _identity(url)
    settings = None if source else config.download.result_settings()
    mark = fingerprints.of_download(url.reveal(), source, settings)
    final = Store(config.store_path).video(video_id)
    fetched = None if source else results.read_download(final)
    # a video that was fetched is of its source, whatever the settings are now
    made = fetched.fingerprint if fetched and fetched.status == VideoStatus.DOWNLOADED else None
    policy = results.judged_by(final, policy_id(config.download.policy))
    marks = {
        "fingerprint": mark,
        "made_with": recipe_id("download", settings),
        "policy": policy,
    }

    present = url

    def make(out: Path) -> None:
        nonlocal present
        try:
            fetch_into(out)
        except Exception:
            present = _source_of(video_id).url  # a new signature may have come meanwhile
            raise

    def fetch_into(out: Path) -> None:
        fetch = partial(
            fetch_video,
            url,
            out,
            video_id,
            config.download,
            given=given,
            keep=final.parent,
            meta=marks,
            progress=log.info,
        )
        if source:
            fetch()
        else:
            name = claims.session_name(stage_rows.DOWNLOAD)
            shared.within(config.download.budget, url.reveal(), name, fetch, stock)

    def kept(error: DataminerError, error_class: ErrorClass) -> TaskOutcome | None:
        chosen.take_over(Store(config.store_path), video_id)
        return results.kept(Store(config.store_path), video_id, error, error_class)

    return StageTask(
        stage=stage_rows.DOWNLOAD,
        key={"video_id": video_id},
        final=final,
        fingerprint=made or mark,
        make=make,
        read=partial(results.read_judged, policy=policy),
        write_failure=results.failed_info(marks),
        instead=kept,
        forced=again,
        inputs=lambda: _identity(present) or present,
        input_state=source or url,
    )


def extract(config: Config, video_id: str, manner: Manner = Manner()) -> None:
    """Take the frames out of one downloaded video, or pass its failure on.

    Raises
    ------
    NotReady
        The video is not downloaded.
    """
    store = Store(config.store_path)
    chosen.take_over(store, video_id)
    row = chosen.read_candidates(video_id, session=claims.session_name(stage_rows.EXTRACT))
    folder = store.video(video_id)
    if row and row.kept and chosen.frames_of(config, video_id, row)[1]:
        log.info("its frames stay as they are: %s", row.error)
        return
    if row and row.status == VideoStatus.PENDING:
        if results.read_download(folder) is None:
            raise NotReady(f"{video_id} is not downloaded yet")
        # the row does not know of the file that is there
        download(config, video_id, Manner(manner.patient))

    def describe() -> StageTask:
        (before,) = states([folder / INFO_FILE])
        info = results.read_info(folder)
        results.raise_failure(info)
        if info is None:
            raise NotReady(f"{video_id} is not downloaded yet")
        media = results.video_file(folder, info)
        (at_first,) = states([media])

        def inputs() -> object:
            now, file = states([folder / INFO_FILE, media])
            return now, file or at_first  # once it was read, it may go

        work = extract_work(config, video_id, info, manner.threads)
        state = (before, at_first)
        return replace(work, forced=manner.forced, inputs=inputs, input_state=state)

    def attempt() -> TaskOutcome:
        try:
            return perform_described(describe, config.monitor, patient=manner.patient)
        except SourceChanged as error:
            log.warning("%s", error.message)
            download(config, video_id, Manner(manner.patient, forced=True))
            return perform_described(describe, config.monitor, patient=manner.patient)

    try:
        outcome = attempt()
    except FailedBefore as error:
        _pass_on(video_id, extract_work(config, video_id, {}, manner.threads), error)
        return
    _tell_failure(video_id, outcome, config.project_names)


def lead_to_frames(config: Config, video_id: str) -> None:
    """Have ``frames/VIDEO/frames.parquet`` lead to the frames that the settings choose."""
    row = chosen.read_candidates(video_id, session=claims.session_name(stage_rows.EXTRACT))
    if row:
        folder, _ = chosen.frames_of(config, video_id, row)
        recipes.lead(Store(config.store_path), video_id, folder.name, asked=True)


def extract_work(config: Config, video_id: str, info: dict[str, Any], threads: int) -> StageTask:
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
    from dataminer.stages.download.stage import is_changed_link
    from dataminer.stages.extract import stage

    store = Store(config.store_path)
    settings = config.extract.result_settings()
    mark = fingerprints.of_extract(settings, info.get("sha256"))
    final = store.recipe(video_id, mark)
    marks = {"fingerprint": mark, "made_with": recipe_id("extract", settings)}

    def make(out: Path) -> None:
        media = results.video_file(store.video(video_id), info)
        if media.is_symlink():
            said = f"{media} is a link, and what it leads to is not the video"
            raise SourceChanged(said, ErrorClass.CHANGED)
        if is_changed_link(media, info):
            said = f"{media} was written to since it was taken: it is a hard link to its source"
            raise SourceChanged(said, ErrorClass.CHANGED)
        stage.extract(
            media,
            out,
            video_id,
            config.extract,
            meta=marks,
            source=info,
            threads=threads,
            progress=log.info,
        )

    return StageTask(
        stage=stage_rows.EXTRACT,
        key={"video_id": video_id},
        final=final,
        fingerprint=mark,
        make=make,
        read=results.read_extract,
        write_failure=results.failed_frames(marks),
        instead=partial(results.kept_frames, final, video_id),
        lead=partial(recipes.lead, store, video_id, mark),
    )


def filter_frames(
    config: Config,
    project: str,
    video_id: str,
    manner: Manner = Manner(),
    *,
    project_id: int | None = None,
) -> None:
    """Choose one video's frames for one project, whose id may be known.

    Raises
    ------
    NotReady
        The video has no frames.
    """
    if project_id is None:
        project_id = projects.id_of(project, session=claims.session_name(stage_rows.FILTER))
    key = {"project_id": project_id, "video_id": video_id}

    def describe() -> StageTask:
        return replace(_filter_work(config, project, key), forced=manner.forced)

    try:
        perform_described(describe, config.monitor, patient=manner.patient)
    except FramesLost as error:
        chosen.lose(video_id, error.folder)
        raise


def _filter_work(config: Config, project: str, key: Mapping[str, Any]) -> StageTask:
    """Describe the filtering of one video's frames."""
    from dataminer.stages.embed.frame_models import FrameModels
    from dataminer.stages.filter import stage

    store, video_id = Store(config.store_path), key["video_id"]
    frames_dir, source = _frames_or_failure(config, project, video_id)
    looking = FrameModels.of(config)

    def inputs() -> object:
        table = frames_dir / FRAMES_FILE
        return states([table]), looking.model_fingerprints(video_id, frames_dir.name)

    state = inputs()
    if "failure" not in source and results.read_frames_meta(frames_dir) != source:
        raise InputChanged(frames_dir)
    settings = config.filter.result_settings()
    try:
        looks = looking.frame_scores(video_id, source)
    except DamagedFile as error:
        raise _seen_lost(error) from error
    seen = [look.mark for look in looks]
    mark = fingerprints.of_filter(settings, source.get("fingerprint"), seen)
    marks = {
        "fingerprint": mark,
        "made_with": recipe_id("filter", settings),
        "filtered_from": source.get("fingerprint"),
    }

    def make(out: Path) -> None:
        results.raise_failure(source)
        meta = marks | ({"seen": seen} if seen else {})
        try:
            result = stage.filter_frames(frames_dir, out, config.filter, meta=meta, scores=looks)
        except PermanentError as error:
            replaced = inputs() != state
            if replaced or results.read_download(store.video(video_id)) is None:
                raise  # nothing is lost, or there is nothing to take it out of
            raise _lost(video_id, error, frames_dir) from error
        log.info("%d frames passed, rejected: %s", result.passed, result.rejected or "none")

    return StageTask(
        stage=stage_rows.FILTER,
        key=key,
        final=store.filtered(project, video_id),
        fingerprint=mark,
        make=make,
        read=results.read_filter,
        write_failure=results.failed_frames(marks),
        inputs=inputs,
        input_state=state,
    )


def _frames_or_failure(config: Config, project: str, video_id: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a video's frames, and what is known of them or of why there are none.

    Raises
    ------
    NotReady
        There are none yet.
    """
    row = chosen.read_candidates(
        video_id, session=claims.session_name(stage_rows.FILTER), project=project
    )
    if row is None:
        raise NotReady(f"{video_id} has no row")
    folder, found = chosen.frames_of(config, video_id, row)
    whole = found is not None and "failure" not in found
    failed = row.status == VideoStatus.FAILED
    if failed and row.extract_fingerprint is None and not whole:  # as a download
        info = results.read_info(Store(config.store_path).video(video_id)) or {}
        if "failure" in info:
            return folder, info | {"fingerprint": None}
        if found is None:
            return folder, _failure_of(row)
    if failed and row.extract_fingerprint == folder.name and (whole or found is None):
        return folder, _failure_of(row)  # the files that told of it are gone, or older
    if found is None:
        if (folder / FRAMES_FILE).exists():  # damaged
            chosen.lose(video_id, folder)
        raise NotReady(f"{video_id} has no frames yet")
    return folder, found


def _lost(video_id: str, error: PermanentError, folder: Path) -> FramesLost:
    """Return what tells that frames of a video cannot be read, and are taken out again."""
    message = f"frames of {video_id} are lost: {error.message}"
    lost = FramesLost(message, error.error_class, "run snakemake again: they are made anew")
    lost.folder = folder
    return lost


def _seen_lost(error: DamagedFile) -> SeenLost:
    """Take away what a model saw, so that it looks again, and return what tells of it."""
    remove(Path(error.path))
    return SeenLost(error.message, error.error_class, "run snakemake again: it is made anew")


def _failure_of(row: chosen.CandidateFrames) -> dict[str, Any]:
    """Return what a row says of a failure, as files do."""
    message, _, hint = (row.error or "").partition(". Next: ")
    failure = {"message": message, "error_class": row.error_class, "hint": hint}
    return {"failure": failure, "fingerprint": None}


def dedup(config: Config, project: str, *, forced: bool = False) -> None:
    """Keep one frame of each group of near-duplicates of a project; anew if ``forced``."""
    project_id = projects.id_of(project)
    projects.refresh([project_id])  # whoever filtered last may have been killed before

    def describe() -> StageTask:
        work = _dedup_work(config, project, {"project_id": project_id})
        return replace(work, forced=forced)

    perform_described(describe, config.monitor)
    projects.refresh([project_id])


def _dedup_work(config: Config, project: str, key: Mapping[str, Any]) -> StageTask:
    """Describe the choice of a project's unique frames."""
    from dataminer.stages.dedup import stage
    from dataminer.stages.embed.frame_models import FrameModels

    store = Store(config.store_path)
    final = store.dedup(project)
    members = _ended_members(project)
    if not members:
        raise DataminerError(
            f"no video of project {project} has frames yet: all of them wait for a later run",
            f"`dataminer status --project {project}` says what for",
        )
    looking = FrameModels.of(config)
    compared = members if looking.compares else []
    files = {row[0]: looking.embedded(row[0], row[3]) for row in compared if row[3]}

    def inputs() -> object:
        tables = states(store.filtered(project, row[0]) / FRAMES_FILE for row in members)
        # not their times, which are touched
        return tables, [found and found[:2] for found in states(files.values())]

    state = inputs()
    videos = [_filtered(store.filtered(project, row[0]), *row[:3]) for row in members]
    _lose_damaged(videos, key["project_id"])
    made_from = [(video.video_id, video.fingerprint) for video in videos]
    embedded = stage.Embedded.of(files) if looking.compares else None
    model = embedded.model if embedded else None
    mark = fingerprints.of_dedup(config.dedup.result_settings(), made_from, model)

    def make(out: Path) -> None:
        _refuse_all_failed(project, videos)
        try:
            stage.dedup(
                [video.folder for video in videos if not video.failed],
                out,
                config.dedup,
                previous=final,
                embedded=embedded,
                meta={"fingerprint": mark},
                progress=log.info,
            )
        except DamagedFile as error:
            if error.path in files.values():
                raise _seen_lost(error) from error
            raise

    read = results.read_dedup
    return StageTask(
        stage_rows.DEDUP, key, final, mark, make, read, inputs=inputs, input_state=state
    )


def detect(
    config: Config,
    project: str,
    weights: Path,
    contact_sheet: Path,
    threads: int = 1,
    *,
    forced_since: float | None = None,
) -> None:
    """Annotate the unique frames of a project, and draw a sample of them as ``contact_sheet``.

    What was made before ``forced_since`` is made anew, whatever there is.
    """
    from dataminer.formats.contact_sheet import contact_sheet as draw
    from dataminer.stages.detect import shards as kept
    from dataminer.stages.detect import stage

    store, weights = Store(config.store_path), model_of(weights)
    key = {"project_id": projects.id_of(project)}
    table = store.dedup(project) / FRAMES_FILE
    plans: list[kept.ShardPlan] = []

    def describe() -> StageTask:
        inputs = partial(states, [table])
        state = inputs()
        source = results.read_frames_meta(table.parent)
        if source is None:
            raise DataminerError(f"{table} cannot be read", "run snakemake again: it is made anew")
        settings = config.detect.result_settings()
        mark = fingerprints.of_detect(settings, weights_sha256(weights), source.get("fingerprint"))

        def make(out: Path) -> None:
            plans[:] = [shards.plan(config, project, weights, forced_since)]
            made = stage.detect(
                plans[0],
                out,
                meta={"fingerprint": mark, "project": project},
                videos=_Provenance(store, store.dedup(project)),
                threads=threads,
                progress=log.info,
            )
            log.info("%d objects in %d images: %s", made.annotations, made.images, made.per_class)

        return StageTask(
            stage=stage_rows.DETECT,
            key=key,
            final=store.detect(project),
            fingerprint=mark,
            make=make,
            read=results.read_detect,
            forced=forced_since is not None,
            inputs=inputs,
            input_state=state,
        )

    perform_described(describe, config.monitor)
    for plan in plans:
        kept.prune(plan)
    draw(store.detect(project), contact_sheet)
    projects.refresh([key["project_id"]])


class _Provenance(Mapping[str, Mapping[str, Any]]):
    """The videos' ``info.json``, read when asked for; without one, what their frames say."""

    def __init__(self, store: Store, frames: Path) -> None:
        self._store, self._folder = store, frames

    def __getitem__(self, video_id: str) -> Mapping[str, Any]:
        info = results.read_info(self._store.video(video_id))
        return self._of_frames[video_id] if info is None else info

    @cached_property
    def _of_frames(self) -> dict[str, Mapping[str, Any]]:
        columns = ["video_id", *PROVENANCE]
        table = read_table(self._folder / FRAMES_FILE, columns, schema=FRAMES_SCHEMA)
        return {row["video_id"]: row for row in table.to_pylist()}

    def __iter__(self) -> Iterator[str]:
        return iter(names_in(self._store.video("x").parent))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _tell_failure(video_id: str, outcome: TaskOutcome, names: Iterable[str]) -> None:
    """Let the run's own output name a failure that does not stop it."""
    error = runnable(outcome.columns.get("error") or "", video_id, names)
    if outcome.status == VideoStatus.FAILED:
        tell(f"dataminer: video {video_id} FAILED: {error}", sys.stderr)
    elif error:
        tell(f"dataminer: video {video_id} keeps the frames that it has: {error}", sys.stderr)


def _source_of(video_id: str) -> VideoSource:

    def work(connection: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statements.SOURCE_OF_VIDEO, {"video_id": video_id})
            return cursor.fetchone()

    name = claims.session_name(stage_rows.DOWNLOAD)
    row = transaction(work, patience=claims.PATIENCE, name=name, single=True)
    if row is None:
        raise Deleted({"video_id": video_id})
    return VideoSource.of_row(*row)


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


def _pass_on(video_id: str, work: StageTask, error: FailedBefore) -> None:
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
        transaction(publish, patience=claims.PATIENCE, name=claims.session_name(stage_rows.EXTRACT))
    remove_partials(work.final)
    log.info("%s", error)


class _Filtered(NamedTuple):
    """A video of a project, and what its filter left.

    Parameters
    ----------
    video_id : str
        The video.
    folder : Path
        Of its filtered frames.
    fingerprint : str or None
        Of them, or of the failure.
    failed : bool
        It has no frames, whatever lies in the folder: an earlier result, or nothing any more.
    there : bool
        Its table can be read, unless it has failed.
    """

    video_id: str
    folder: Path
    fingerprint: str | None
    failed: bool
    there: bool = True


def _ended_members(project: str) -> list[tuple[str, str, str | None, str | None]]:
    """Return the videos of a project that are filtered or have failed, in the order of their ids.

    Each with its status and the fingerprints of its filtered frames and of all of them. Those that
    wait for their next attempt, or were added since the run was planned, have none that counts.
    """

    def ask(connection: Any) -> list[tuple[str, str, str | None, str | None]]:
        with connection.cursor() as cursor:
            cursor.execute(statements.MEMBERS, {"project": project})
            return list(cursor.fetchall())

    members = transaction(ask, patience=claims.PATIENCE, name=claims.session_name(stage_rows.DEDUP))
    ended = [member for member in members if member[1] in _ENDED]
    if len(ended) < len(members):
        count = len(members) - len(ended)
        log.warning("left out %d videos that are not filtered yet: run snakemake again", count)
    return ended


def _filtered(folder: Path, video_id: str, status: str, made: str | None) -> _Filtered:
    if status == ProjectVideoStatus.FAILED:
        if made is None:  # older than the column
            made = (results.read_frames_meta(folder) or {}).get("fingerprint")
        return _Filtered(video_id, folder, made, failed=True)
    meta = results.read_frames_meta(folder)
    if meta is None:
        return _Filtered(video_id, folder, None, failed=False, there=False)
    return _Filtered(video_id, folder, meta.get("fingerprint"), failed="failure" in meta)


def _lose_damaged(videos: Iterable[_Filtered], project_id: int) -> None:
    """Stop if tables of filtered frames cannot be read, and have the next run make them anew."""
    lost = [video for video in videos if not video.there]
    for video in lost:
        chosen.lose_filtered(project_id, video.video_id, video.folder)
    if lost:
        others = f", as are {len(lost) - 1:,} more" if len(lost) > 1 else ""
        raise NotReady(
            f"{lost[0].folder / FRAMES_FILE} is damaged or gone{others}",
            "run snakemake again: they are made anew",
        )


_ENDED = (ProjectVideoStatus.FILTERED, ProjectVideoStatus.FILTERED_EMPTY, ProjectVideoStatus.FAILED)


def _refuse_all_failed(project: str, videos: Sequence[_Filtered]) -> None:
    if all(video.failed for video in videos):
        raise PermanentError(
            f"all {len(videos)} videos of project {project} failed, so there is no frame to keep",
            ErrorClass.NO_FRAMES,
            "see `dataminer status` for the reasons",
        )
