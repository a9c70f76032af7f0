"""The messages that libav logs: why it cannot open a file, and that it conceals damage."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.logging
from av.video.stream import VideoStream

_LOG_SETTINGS = threading.Lock()
_DECODING = threading.Lock()
_MAX_FLUSHES = 256  # of a decoder that fails while it is flushed; it holds fewer frames
_NO_PICTURE = re.compile(r"\bSEI\b|\bAPP")  # errors about what stands beside it
_REFERENCES = re.compile(r"\bref\b|\breference|\bRPS\b|\bmmco\b|\bPOCs\b|short term")
_CHECKS_REFERENCES = {"h264", "hevc"}  # decoders; what they miss is found in their numbers


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


class DecoderMessages:
    """The errors that a decoder logs.

    Parameters
    ----------
    decoder : str
        libav's name of the decoder.
    log : list of tuple
        Grows by a level, a logger's name and a text with each message of the process.
    """

    def __init__(self, decoder: str, log: list[tuple[int, str, str]]) -> None:
        self._decoder = decoder
        self._log = log

    def tell_damage(self) -> bool:
        """Return whether the decoder has met damage since the last call.

        If it decodes several packets at once, the damage is in any of those whose frames have not
        come yet.
        """
        count = len(self._log)
        if not count:
            return False
        messages = self._log[:count]
        del self._log[:count]
        return any(n == self._decoder and self._is_damage(text) for _, n, text in messages)

    def _is_damage(self, text: str) -> bool:
        if self._decoder in _CHECKS_REFERENCES and _REFERENCES.search(text):
            return False
        return not _NO_PICTURE.search(text)


@contextmanager
def decoder_messages(stream: VideoStream) -> Iterator[DecoderMessages]:
    """Listen to a stream's decoder, of which there is one at a time in the process.

    Decoders fill in for what they cannot decode, and mostly tell it nowhere but in their log. The
    decoder is flushed at the end: its threads must not log while they are joined, because logging
    takes Python's global lock, which PyAV does not release then.
    """
    with _DECODING:
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        with _LOG_SETTINGS:
            av.logging.set_skip_repeated(False)
            av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture(local=False) as log:
                try:
                    yield DecoderMessages(stream.codec_context.codec.name, log)
                finally:
                    _flush(stream)
        finally:
            with _LOG_SETTINGS:
                av.logging.set_level(level)
                av.logging.set_skip_repeated(skips)


def _flush(stream: VideoStream) -> None:
    """Let a decoder finish what it has begun, if it has threads of its own."""
    has_begun = stream.codec_context.is_open and stream.codec_context.thread_count != 1
    for _ in range(_MAX_FLUSHES if has_begun else 0):
        try:
            stream.decode(None)
        except EOFError:
            return
        except av.FFmpegError:
            continue


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
