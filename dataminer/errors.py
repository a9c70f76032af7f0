"""Errors that state what happened, whether a retry can help, and what to do next."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Sequence
from enum import StrEnum
from os import PathLike

from dataminer import commands
from dataminer.text import cut, inert_lines


class ErrorClass(StrEnum):
    """Why a stage failed on one video; stored in the ``error_class`` columns."""

    # permanent: the same input fails again
    REMOVED = "removed"
    PRIVATE = "private"
    MEMBERS_ONLY = "members_only"
    LOGIN = "login"
    AGE = "age"
    GEO = "geo"
    COPYRIGHT = "copyright"
    DRM = "drm"
    LIVE = "live"
    POLICY = "policy"
    UNSUPPORTED = "unsupported"
    EMPTY = "empty"
    NO_VIDEO = "no_video"
    CORRUPT = "corrupt"
    NO_FRAMES = "no_frames"
    MISSING_SOURCE = "missing_source"
    MODEL = "model"
    # transient: a retry can help
    NETWORK = "network"
    SERVER = "server"
    RATE_LIMIT = "rate_limit"
    BOT_CHECK = "bot_check"
    BLOCKED = "blocked"
    TIMEOUT = "timeout"
    UNCHECKED = "unchecked"
    CHANGED = "changed"
    # local: this machine must change first
    DISK_FULL = "disk_full"
    DISK = "disk"
    PERMISSION = "permission"
    MISSING_TOOL = "missing_tool"
    COOKIES = "cookies"
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    HUNG = "hung"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    NODE_FAIL = "node_fail"
    INTERNAL = "internal"


class Kind(StrEnum):
    """Whether a retry can help after a failure, and who must act first."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    LOCAL = "local"


_SNAKEMAKE_WORD = re.compile(r"(?<=\brun )snakemake\b|(?<=\bthen )snakemake\b")
_RETRY_COMMAND = re.compile(r"(retry --class \w+)(?=`)")
_RUN_AGAIN = "run snakemake again"
_MOST_REASON, _MOST_STEP = 300, 400  # characters of an error in a list
_MOST_NAMED = 3  # videos of a class that are named
_DOWNLOAD = "`dataminer retry --download VIDEO`"
_REPLACE_FILE = f"replace the file, or check the link, and {_DOWNLOAD}"
_DELETE_VIDEO = "`dataminer delete-videos VIDEO --project PROJECT`"
CHECK_LINK = (
    f"open the link in a browser; if it leads to a video, {_DOWNLOAD}, otherwise correct it in"
    f" your list, and {_DELETE_VIDEO}"
)
"""The next step if a link returns something that cannot be a video."""
NEXT_STEP: dict[ErrorClass, str] = {
    ErrorClass.REMOVED: "nothing to do: the source is gone",
    ErrorClass.PRIVATE: "nothing to do, unless your account may see it: then set download.cookies"
    " and `dataminer retry --class private`",
    ErrorClass.MEMBERS_ONLY: "nothing to do, unless your account is a member or has paid: then set"
    " download.cookies and `dataminer retry --class members_only`",
    ErrorClass.LOGIN: "set download.cookies to those of an account, then `dataminer retry --class"
    " login`",
    ErrorClass.AGE: "set download.cookies to those of an account that is old enough, then"
    " `dataminer retry --class age`",
    ErrorClass.GEO: "set download.proxy to one in a country where it is available, then"
    " `dataminer retry --class geo`",
    ErrorClass.COPYRIGHT: "nothing to do: its owner has blocked it",
    ErrorClass.DRM: "nothing to do if a site encrypts it for its own player; replace a file of your"
    " own by a copy without encryption, then `dataminer retry --class drm`",
    ErrorClass.LIVE: "after it has ended, run `dataminer retry --class live`",
    ErrorClass.POLICY: "nothing to do; to allow it, change download.policy and run snakemake",
    ErrorClass.UNSUPPORTED: "if no video was found, check the link; if it cannot be decoded,"
    " convert it; if you trust the file, raise the setting that refused it; then `dataminer retry"
    " --class unsupported`",
    ErrorClass.EMPTY: "replace the file, which has no bytes, or check the link, then"
    " `dataminer retry --class empty`",
    ErrorClass.NO_VIDEO: f"remove it from your list, and {_DELETE_VIDEO}",
    ErrorClass.CORRUPT: f"{_REPLACE_FILE}: this one cannot be decoded",
    ErrorClass.NO_FRAMES: f"{_REPLACE_FILE}: no frame of this one could be decoded",
    ErrorClass.MISSING_SOURCE: "put the file back, then `dataminer retry --class missing_source`,"
    f" or {_DELETE_VIDEO}",
    ErrorClass.MODEL: "check detect.model: it must be a weights file that ultralytics can load",
    ErrorClass.NETWORK: f"{_RUN_AGAIN}: the network failed",
    ErrorClass.SERVER: f"{_RUN_AGAIN} later: the server failed",
    ErrorClass.RATE_LIMIT: "wait an hour, then run snakemake again; smaller limits in"
    " download.budget help, see docs/budget.md",
    ErrorClass.BOT_CHECK: "wait some hours, then run snakemake again; download.cookies or another"
    " address help, see docs/youtube.md",
    ErrorClass.BLOCKED: "wait, then run snakemake again: the server refuses requests for now",
    ErrorClass.TIMEOUT: f"{_RUN_AGAIN}: it resumes where it stopped",
    ErrorClass.UNCHECKED: "change download.policy, which needs metadata that this source does not"
    " provide, and run snakemake",
    ErrorClass.CHANGED: f"{_RUN_AGAIN}: it is made from the new input",
    ErrorClass.DISK_FULL: "free space under the store, then run snakemake again",
    ErrorClass.DISK: f"{_RUN_AGAIN}; the file system under the store had an error",
    ErrorClass.PERMISSION: "make the path readable and writable, then run snakemake again",
    ErrorClass.MISSING_TOOL: "install what the message names, then run snakemake again",
    ErrorClass.COOKIES: "export the cookies again, see docs/youtube.md, then run snakemake again",
    ErrorClass.KILLED: f"{_RUN_AGAIN}, after `dataminer retry --class killed` if it waits; if"
    " memory or time ran out, raise the rule's mem_mb or runtime with --set-resources",
    ErrorClass.OUT_OF_MEMORY: "nothing yet: each attempt requests more memory; if the last one "
    "also runs out of it, raise the rule's mem_mb in the profile and run snakemake again",
    ErrorClass.CRASHED: "replace the file, then `dataminer retry --class crashed`; if it plays"
    " elsewhere, report a bug with the log",
    ErrorClass.HUNG: "replace the file or, if it just takes long to process, raise"
    " monitor.no_progress_minutes, then `dataminer retry --class hung`",
    ErrorClass.TIME_LIMIT: "nothing yet: each attempt requests more time; if the last one also "
    "runs out of it, raise the rule's runtime in the profile and run snakemake again",
    ErrorClass.CANCELLED: "run snakemake again: the cluster job was cancelled",
    ErrorClass.NODE_FAIL: "run snakemake again, unless Slurm has requeued the job: its node failed "
    "or was needed for another job",
    ErrorClass.INTERNAL: "see the job's log; if it is a bug of dataminer, report it with that log",
}
TRANSIENT_CLASSES = {
    ErrorClass.NETWORK,
    ErrorClass.SERVER,
    ErrorClass.RATE_LIMIT,
    ErrorClass.BOT_CHECK,
    ErrorClass.BLOCKED,
    ErrorClass.TIMEOUT,
    ErrorClass.UNCHECKED,
    ErrorClass.CHANGED,
}
LOCAL_CLASSES = {
    ErrorClass.DISK_FULL,
    ErrorClass.DISK,
    ErrorClass.PERMISSION,
    ErrorClass.MISSING_TOOL,
    ErrorClass.COOKIES,
    ErrorClass.KILLED,
    ErrorClass.OUT_OF_MEMORY,
    ErrorClass.CRASHED,
    ErrorClass.HUNG,
    ErrorClass.TIME_LIMIT,
    ErrorClass.CANCELLED,
    ErrorClass.NODE_FAIL,
    ErrorClass.INTERNAL,
}
# failures of a download that an expired signature of the link may also cause
FIXED_BY_SIGNATURE = frozenset(
    TRANSIENT_CLASSES - {ErrorClass.UNCHECKED, ErrorClass.CHANGED}
    | {
        ErrorClass.REMOVED,
        ErrorClass.PRIVATE,
        ErrorClass.MEMBERS_ONLY,
        ErrorClass.LOGIN,
        ErrorClass.GEO,
        ErrorClass.UNSUPPORTED,
    }
)
# classes of operating system errors, none of which is caused by the video
_ERRNO = {
    errno.ENOSPC: ErrorClass.DISK_FULL,
    errno.EDQUOT: ErrorClass.DISK_FULL,
    errno.EFBIG: ErrorClass.DISK_FULL,
    errno.EACCES: ErrorClass.PERMISSION,
    errno.EPERM: ErrorClass.PERMISSION,
    errno.EROFS: ErrorClass.PERMISSION,
    errno.EIO: ErrorClass.DISK,
    errno.ESTALE: ErrorClass.DISK,
}


def kind_of(error_class: ErrorClass) -> Kind:
    """Return whether failures of a class are permanent, transient or local to this machine."""
    if error_class in TRANSIENT_CLASSES:
        return Kind.TRANSIENT
    return Kind.LOCAL if error_class in LOCAL_CLASSES else Kind.PERMANENT


def advice(
    error_class: str | None,
    which: str,
    projects: Iterable[str],
    *,
    failed: bool = False,
    videos: Sequence[str] = (),
) -> str:
    """Return what to do about failures of a class, or "" for an unknown one; see :func:`runnable`.

    Parameters
    ----------
    error_class : str or None
        The class of the failures.
    which, projects : str, iterable of str
        See :func:`runnable`.
    failed : bool
        Whether they are FAILED, so that runs no longer retry them.
    videos : sequence of str
        The videos that failed, if ``which`` is not an id.
    """
    if error_class not in list(ErrorClass):  # of another version
        return ""
    known = ErrorClass(error_class)
    step = NEXT_STEP[known]
    if failed and kind_of(known) is not Kind.PERMANENT and "dataminer retry" not in step:
        step = f"once the cause is gone, `dataminer retry --class {known}`, then run snakemake"
    if " " in which and len(videos) <= _MOST_NAMED:
        step = step.replace("--download VIDEO", " ".join(f"--download {v}" for v in videos))
    return runnable(step, which, projects)


def brief(error: str) -> str:
    """Shorten an error and its next step to a few lines; ``dataminer why`` and logs show all of it.

    Parameters
    ----------
    error : str
        The error as stored in a row.
    """
    happened, separator, step = error.partition(" Next: ")
    return f"{cut(happened, _MOST_REASON)}{separator}{cut(step, _MOST_STEP)}"


def runnable(text: str, which: str, projects: Iterable[str]) -> str:
    """Return an error or a next step whose commands can be copied and run.

    Projects share the rows and files of a video, which therefore name no project: names are filled
    in when a text is shown.

    Parameters
    ----------
    text : str
        An error or a next step.
    which : str
        The video's id, or options that choose videos: ``--class no_video``.
    projects : iterable of str
        The projects that contain it.
    """
    projects = list(projects)
    happened, separator, step = text.rpartition(" Next: ")
    run = " and ".join(f"`{commands.snakemake([name])}`" for name in projects)
    text = happened + separator + _SNAKEMAKE_WORD.sub(lambda _: run, step) if run else text
    options, is_id = "".join(f" --project {name}" for name in projects), " " not in which
    text = _RETRY_COMMAND.sub(rf"\1{options}", text)
    text = text.replace("add-video URL --project PROJECT", f"add-video URL{options}")
    if is_id:
        text = text.replace(_DOWNLOAD, _DOWNLOAD.replace("VIDEO", which))
    is_odd_id = is_id and which.startswith("-")  # it would be parsed as an option
    chosen = f"{options} -- {which}" if is_odd_id else f" {which}{options}"
    return text.replace(_DELETE_VIDEO, f"`dataminer delete-videos{chosen}`")


def os_error_class(error: OSError) -> ErrorClass:
    """Classify an error of the operating system; INTERNAL if it means nothing to users."""
    if isinstance(error, TimeoutError):
        return ErrorClass.TIMEOUT
    if isinstance(error, ConnectionError | socket.gaierror):
        return ErrorClass.NETWORK
    return _ERRNO.get(error.errno or 0, ErrorClass.INTERNAL)


class DataminerError(Exception):
    """An error that can be explained to the user in one sentence.

    Parameters
    ----------
    message : str
        What happened, and to what.
    hint : str
        The next step, as a sentence or a command.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = inert_lines(message), inert_lines(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{stop} Next: {self.hint}"


class ConfigError(DataminerError):
    """The configuration cannot be used as it is."""


class DatabaseError(DataminerError):
    """The database cannot be reached or does not match this version."""


class DatabaseAway(DatabaseError):
    """The database server is not running at the moment, and may be restarted."""


class StageError(DataminerError):
    """A stage failed on one video or project.

    Parameters
    ----------
    message : str
        What happened.
    error_class : ErrorClass
        The class of the failure, which determines the default next step.
    hint : str, optional
        A more specific next step than that of the class.
    """

    def __init__(self, message: str, error_class: ErrorClass, hint: str = "") -> None:
        super().__init__(message, hint or NEXT_STEP[error_class])
        self.error_class = error_class


class PermanentError(StageError):
    """A retry would fail again: the video becomes FAILED, and the project continues."""


class DamagedFile(PermanentError):
    """A file of a store is damaged; callers that can continue without it treat it as absent.

    Parameters
    ----------
    path : path
        The file.
    reason : str
        What is wrong with it.
    hint : str, optional
        The next step.
    """

    def __init__(self, path: str | PathLike[str], reason: str, hint: str = "") -> None:
        again = f"remove {path}, then run snakemake again, which recreates it"
        self.path, self.reason = path, reason
        message = f"{path} is damaged: {reason}"
        super().__init__(message, ErrorClass.CORRUPT, hint or again)


class FailedBefore(PermanentError):
    """The video failed in an earlier stage, which has reported it."""


class TransientError(StageError):
    """A retry can help: the claim is released, and a later attempt may succeed."""

    wait: float | None = None
    """Seconds until a retry can help, if known."""
    progressed = False
    """Whether the next attempt resumes where this one stopped."""


class InputChanged(TransientError):
    """The input of a result was replaced while it was made; the attempt does not count."""

    def __init__(self, result: object) -> None:
        message = f"the input of {result} changed while it was being made"
        super().__init__(message, ErrorClass.CHANGED)


class UncheckedError(TransientError):
    """A check was impossible; unlike other transient errors, it counts as an attempt."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, ErrorClass.UNCHECKED, hint)
