"""A pseudo-terminal in which a command runs, as in a window of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE = 120.0  # seconds, on a busy machine


class Terminal:
    """A terminal with one command in it.

    Parameters
    ----------
    command : sequence of str or Path
        What runs, in a process group of its own.
    folder : Path
        Where.
    environment : Mapping
        Its variables.
    columns : int
        How wide the terminal is.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str],
        *,
        columns: int = 80,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.settings = termios.tcgetattr(slave)
        """How the terminal was set when the command began."""
        given = {k: v for k, v in environment.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={**given, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        self._slave = slave  # kept open, so that its settings can be read at the end
        self.seen = b""
        """All that was written so far."""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def text(self) -> str:
        """What was written so far, without what moves the cursor and colours the text."""
        return _ESCAPE.sub("", self.seen.decode(errors="replace")).replace("\r\n", "\n")

    def until(self, wanted: str) -> None:
        """Wait until a text was written, which must come."""
        end = time.monotonic() + PATIENCE
        while wanted not in self.text:
            assert time.monotonic() < end, f"{wanted} did not come: {self.text}"
            assert self._read() or self.process.poll() is None, f"it ended: {self.text}"

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Wait for the end of the command, and return its exit status."""
        end = time.monotonic() + 2 * PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end: {self.text}"
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def settings_now(self) -> list[Any]:
        """Return how the terminal is set now."""
        return termios.tcgetattr(self._slave)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.2)[0]:
            return False
        self.seen += os.read(self._master, 65536)
        return True
