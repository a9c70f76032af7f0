"""The display of a run: a live block in a terminal, otherwise one line per minute.

Everything that the run and its jobs write to the terminal in the meantime appears above the block,
line by line. The block changes no setting of the terminal, so a killed run leaves it as it was.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import IO, Any

from dataminer.monitor.console import console_of
from dataminer.monitor.progress.run import RunProgress, Tracker
from dataminer.text import tell

EACH = 2.0  # seconds between two updates of the block
FIRST, EACH_LINE = 10.0, 60.0  # seconds until the first line, and between two lines
_PATIENCE = 5.0  # seconds to wait at the end for an update, or for the last output of jobs
_HANDLER = "DefaultStreamHandler"  # Snakemake's own, unless the user chose another logger
# Rules that the block shows; other rules, such as a model's download, keep Snakemake's lines
_RULES = {
    *("download", "extract", "embed", "filter", "dedup", "detect_shards", "detect", "report"),
    *("take_up", "batches", "all", "only_download", "only_extract", "only_filter", "only_dedup"),
}
_TERMINATION_PREFIX = "Terminating processes on user request"
_KEPT = ("Will exit after finishing", "Shutting down", "dataminer: ")
_ERRORS = ("job_error", "group_error", "error")
_TRACEBACK, _INTERRUPT = "Traceback (most recent call last):", "KeyboardInterrupt"
_OF_ERROR = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt|Warning)\b")


class RunDisplay:
    """Shows the progress of a run from :meth:`start` to :meth:`stop`; raises no errors.

    Parameters
    ----------
    track : callable
        Returns the tracker of the run; None as long as there is none.
    verbose : bool
        Whether the user wants Snakemake's own lines: then there is no block.
    quiet : collection of str
        What Snakemake does not print: if anything, its other lines stay.
    colours : bool
        Whether the block may be coloured.
    """

    def __init__(
        self,
        track: Callable[[], Tracker | None],
        *,
        verbose: bool = False,
        quiet: Collection[str] = (),
        colours: bool = True,
    ) -> None:
        self._track, self._colours = track, colours
        self._is_quiet = not {"progress", "all"}.isdisjoint(quiet)
        self._hides, self._moves = not verbose and not quiet, not verbose
        self._tracker: Tracker | None = None
        self._handler: logging.Handler | None = None
        self._filter = _Filter()
        self._block: _Block | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def start(self, logger: logging.Logger) -> None:
        """Start; does nothing if the user chose another logger for the run."""
        found = [handler for handler in logger.handlers if handler.name == _HANDLER]
        if self._is_quiet or not found or self._thread.ident is not None:
            return
        self._handler = found[0]
        if self._hides:
            self._handler.addFilter(self._filter)
        if self._moves and _is_terminal(sys.stderr):
            with suppress(Exception):
                self._block = _Block(self._colours)
        atexit.register(self.stop)
        self._thread.start()

    def stop(self) -> RunProgress | None:
        """Stop, and return the progress of the run; None if unknown."""
        if self._thread.ident is None:
            return None
        first = not self._ended.is_set()
        self._ended.set()
        if first:
            self._thread.join(_PATIENCE)
        if self._block:
            self._block.close()
            self._block = None
        if self._handler:
            self._handler.removeFilter(self._filter)
        # a database that blocks the thread must not also block the end of the run
        return self._read(force=True) if first and not self._thread.is_alive() else None

    def _follow(self) -> None:
        pause = EACH if self._block else FIRST
        while not self._ended.wait(pause):
            pause = EACH if self._block else EACH_LINE
            progress = self._read()
            if progress is None or self._ended.is_set():
                continue
            with suppress(Exception):
                self._show(progress)

    def _read(self, *, force: bool = False) -> RunProgress | None:
        with suppress(Exception):
            self._tracker = self._tracker or self._track()
            return self._tracker.read(force=force) if self._tracker else None
        return None

    def _show(self, progress: RunProgress) -> None:
        if block := self._block:
            block.show(progress)
        else:
            from dataminer.monitor.terminal.block import plain

            tell(f"dataminer: {plain(progress)}", sys.stderr)


class _Filter(logging.Filter):
    """Passes all records except those in which Snakemake reports on its jobs.

    After Snakemake was asked to end, jobs end with errors that add no information.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ends = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        event, text = getattr(record, "event", None), str(record.msg)
        self._ends = self._ends or text.startswith(_TERMINATION_PREFIX)
        if record.levelno >= logging.WARNING:
            return not (self._ends and event in _ERRORS)
        if event == "job_info":
            return getattr(record, "rule_name", "") not in _RULES
        return text.startswith((_TERMINATION_PREFIX, *_KEPT))


class _Interrupts:
    """Drops the tracebacks of jobs that Ctrl-C ended while their Python was starting."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._open = 0  # incomplete tracebacks; jobs write at the same time

    def __call__(self, lines: Iterable[str], *, last: bool = False) -> list[str]:
        """Return the lines that can be shown now."""
        shown: list[str] = []
        for line in self._whole(lines):
            if line == _TRACEBACK:
                self._open += 1
                self._held.append(line)
            elif self._open and line.startswith(" "):
                self._held.append(line)
            elif self._open and line.startswith(_INTERRUPT):
                self._open -= 1
                self._held = self._held if self._open else []
            else:
                if self._open and _OF_ERROR.match(line):
                    shown += self._take()
                shown.append(line)
        return shown + (self._take() if last else [])

    def _whole(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield lines, and separately what Snakemake wrote behind the beginning of a job's line."""
        for line in lines:
            start = line.find(_TERMINATION_PREFIX) if self._open else 0
            if start > 0:
                yield line[:start]
            yield line[max(start, 0) :]

    def _take(self) -> list[str]:
        held, self._held, self._open = self._held, [], 0
        return held


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


class _Block:
    """The block at the end of a terminal, and the output of others above it."""

    def __init__(self, colours: bool) -> None:
        from rich.live import Live

        self._lines = _Lines([2, 1] if _is_same_terminal() else [2], self._print)
        self._console = _console(self._lines.terminal, colours)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._lines.start()

    def show(self, progress: RunProgress) -> None:
        """Redraw the block."""
        from dataminer.monitor.terminal.block import block

        with suppress(OSError):
            self._console.size = os.get_terminal_size(self._lines.terminal.fileno())
        self._live.update(block(progress), refresh=True)

    def close(self) -> None:
        """Remove the block; the output of others goes directly to the terminal again."""
        self._lines.stop()
        self._live.stop()

    def _print(self, lines: Iterable[str]) -> None:
        from rich.text import Text

        text = Text("\n").join(Text.from_ansi(line) for line in lines)
        self._console.print(text, soft_wrap=True)


def _console(file: IO[str], colours: bool) -> Any:
    from rich.console import Console

    class Terminal(Console):
        def show_cursor(self, show: bool = True) -> bool:
            """Do not hide the cursor: a killed run could not show it again."""
            return False

    return console_of(file, Terminal, force_terminal=True, no_color=None if colours else True)


def _is_same_terminal() -> bool:
    try:
        return os.isatty(1) and os.ttyname(1) == os.ttyname(2)
    except OSError:
        return False


class _Lines:
    """Captures what is written to the terminal through some file descriptors, line by line.

    Parameters
    ----------
    descriptors : list of int
        The terminal's descriptors, which jobs inherit.
    show : callable
        Shows the lines.
    """

    def __init__(self, descriptors: list[int], show: Callable[[list[str]], None]) -> None:
        self._show = show
        self._saved = {number: os.dup(number) for number in descriptors}
        encoding = sys.stderr.encoding or "utf-8"
        self.terminal = os.fdopen(
            self._saved[descriptors[0]], "w", encoding=encoding, errors="replace", closefd=False
        )
        self._source = -1
        self._without_interrupts = _Interrupts()
        self._ending, self._drained = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)

    def start(self) -> None:
        """Start capturing."""
        _flush()
        self._source, sink = os.pipe()
        self._thread.start()
        for number in self._saved:
            os.dup2(sink, number)
        os.close(sink)

    def stop(self) -> None:
        """Restore the descriptors after everything written so far has been shown."""
        _flush()
        for number, saved in self._saved.items():
            os.dup2(saved, number)
        self._ending.set()
        self._drained.wait(_PATIENCE)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        rest = b""
        while poll.poll(100) or not self._ending.is_set():
            if not poll.poll(0):
                continue
            piece = os.read(self._source, 65536)
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            self._tell(lines)
        self._tell([rest] if rest else [], last=True)
        self._drained.set()
        # processes that outlive the run may still write
        with suppress(OSError):
            while piece := os.read(self._source, 65536):
                os.write(self.terminal.fileno(), piece)

    def _tell(self, lines: list[bytes], *, last: bool = False) -> None:
        # only the last state of a line that was overwritten
        written = (_last(line).decode(errors="replace") for line in lines)
        shown = self._without_interrupts(written, last=last)
        if not shown:
            return
        try:
            self._show(shown)
        except Exception:
            with suppress(OSError):
                os.write(self.terminal.fileno(), "\n".join([*shown, ""]).encode())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or not a terminal
            stream.flush()


def _last(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2]
