"""The log of a rule's job, and the logs of the videos of its batch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from dataminer.errors import DataminerError, brief
from dataminer.permissions import explain_os_error
from dataminer.process import connecting_only
from dataminer.sync.claims.heartbeat import Interrupted, interruptible
from dataminer.text import cut, inert_lines
from dataminer.urls import mask_text

log = logging.getLogger("dataminer")

EXIT_INTERRUPTED = 143  # 128 + SIGTERM, as a shell reports it
_LONGEST_MESSAGE = 500

_VIDEO: ContextVar[str] = ContextVar("video", default="")
_VIDEO_LOGS_FOLDER: ContextVar[Path | None] = ContextVar("video_logs_folder", default=None)
_VIDEO_LOG: ContextVar[_VideoLog | None] = ContextVar("video_log", default=None)


@contextmanager
def log_job(path: str, video_logs: Path | None = None) -> Iterator[None]:
    """Log to a rule's log file, and end the process on an error.

    The block connects to the database and never starts it.

    Parameters
    ----------
    path : str
        The rule's log file.
    video_logs : Path, optional
        For a batch: the folder for the logs of videos with warnings or errors.

    Raises
    ------
    SystemExit
        With the error's sentence (Snakemake shows it), or 143 if the process was asked to end.
        An unknown error is in the log, with its traceback.
    """
    with _log_handlers(path, video_logs):
        try:
            with connecting_only(), interruptible():
                yield
        except Interrupted as signal:
            log.warning("asked to end (%s): what was in progress was given back", signal)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            sys.exit(f"dataminer: {_log_error(error, path)}")


def _log_error(error: Exception, path: str) -> str:
    """Log the error that ends a job; return the sentence that Snakemake shows."""
    if isinstance(error, DataminerError):
        log.error("%s", error)
        return brief(str(error))
    explained = explain_os_error(error) if isinstance(error, OSError) else None
    if explained:
        log.error("%s", explained)
        return str(explained)
    log.exception("failed")
    message = f"{type(error).__name__}: {' '.join(str(error).split())}"
    message = cut(inert_lines(mask_text(message)), _LONGEST_MESSAGE)
    return f"{message}; {path} has all of it"


@contextmanager
def _log_handlers(path: str, video_logs: Path | None) -> Iterator[None]:
    """Send the log records of the block to the rule's file, and to those of the videos."""
    _VIDEO_LOGS_FOLDER.set(video_logs)
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(LogFormatter())
    handlers = [file, *([_VideoLogHandler()] if video_logs else [])]
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


class LogFormatter(logging.Formatter):
    """Names the video in a batch's log, and masks URLs, which libraries put into messages."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(about)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        video_id = _VIDEO.get()
        record.about = f"{video_id}: " if video_id else ""
        return inert_lines(mask_text(super().format(record)))


@contextmanager
def log_video(video_id: str) -> Iterator[None]:
    """Name a video in what a batch logs in this block; write its own log if it has any warning.

    That is ``VIDEO.log``. Without a warning or an error, an older one is removed.
    """
    folder = _VIDEO_LOGS_FOLDER.get()
    if folder is None:
        yield
        return
    video_log = _VideoLog()
    tokens = _VIDEO.set(video_id), _VIDEO_LOG.set(video_log)
    try:
        yield
    finally:
        _VIDEO.reset(tokens[0])
        _VIDEO_LOG.reset(tokens[1])
        video_log.write(folder / f"{video_id}.log")


class _VideoLogHandler(logging.Handler):
    """Passes records on to the log of the video that this thread works on."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LogFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        if video_log := _VIDEO_LOG.get():
            video_log.add(self.format(record), record.levelno)


class _VideoLog:
    """The log lines of one video."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._has_warning = False

    def add(self, line: str, level: int) -> None:
        """Keep a line."""
        self._lines.append(line)
        self._has_warning |= level >= logging.WARNING

    def write(self, path: Path) -> None:
        """Write the lines to a file if there is a warning among them."""
        try:
            if self._has_warning:
                path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")
            else:
                path.unlink(missing_ok=True)
        except OSError as error:  # not a reason to lose other results
            log.warning("%s cannot be written: %s", path, error)
