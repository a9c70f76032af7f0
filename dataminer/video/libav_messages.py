"""The messages that libav logs when it cannot open a file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.logging

_LOG_SETTINGS = threading.Lock()


@contextmanager
def captured_messages() -> Iterator[None]:
    """Let exceptions carry libav's own messages, and keep stderr clean.

    Use it only while a file is opened, which libav does in one thread: logging takes Python's
    global lock, so a decoder's threads that log while they are joined would deadlock. Level and
    last error belong to the process, so only one file is opened at a time.
    """
    with _LOG_SETTINGS:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.PANIC)
        try:
            yield
        finally:
            av.logging.set_level(level)


def logged_message(error: av.FFmpegError) -> str:
    """Return the last line that libav logged about an error, or an empty string."""
    log: Any = error.log  # (level, name, message), whatever PyAV's stubs say
    return log[-1].strip() if log else ""


def failure_reason(error: av.FFmpegError, path: Path) -> str:
    """Return the logged message of an error, or the error's own text if nothing was logged."""
    text = logged_message(error) or error.strerror or "unknown error"
    if text == "moov atom not found":
        with path.open("rb") as file:
            if file.read(8)[4:] == b"ftyp":
                return f"{text}: the file was cut off before its index"
        return "it begins like no video"
    return text
