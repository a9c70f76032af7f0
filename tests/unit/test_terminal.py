"""What of a run's output is shown, and what becomes of what others write to its terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from dataminer.monitor.terminal import run_display
from dataminer.monitor.terminal.run_display import RunDisplay
from tests.support.paths import ROOT
from tests.support.terminal import Terminal

DEFAULT = "DefaultStreamHandler"
# a run that writes in every way while its block stands, and ends without taking it away
WRITES = """
import logging, os, subprocess, sys, time
from dataminer.monitor.terminal import run_display
from tests.support.progress import Following

run_display.EACH = 0.1
logger = logging.getLogger("snakemake")
handler = logging.StreamHandler()
handler.name = "DefaultStreamHandler"
logger.addHandler(handler)
display = run_display.RunDisplay(Following)
display.start(logger)
time.sleep(1)
logger.warning("a warning %s", "x" * 100)
print("to stderr", file=sys.stderr)
print("to stdout", flush=True)
job = "echo of a job >&2; printf 'half a ' >&2; echo line; printf '1%%\\r2%%\\r3%%\\n'"
subprocess.run(["sh", "-c", job])
time.sleep(1)
raise SystemExit("an error")
"""


def record(text: str | None = None, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text, "levelno": level, **fields})


def test_where_jobs_were_at_ctrl_c_is_left_out_and_nothing_else() -> None:
    head = "Traceback (most recent call last):"
    trace = [head, '  File "a", line 1', "    ^^^", "KeyboardInterrupt"]
    error = [head, '  File "b", line 2', "ValueError: broken"]
    without = run_display._Interrupts()
    assert without(["before", *trace, "after", *error]) == ["before", "after", *error]
    assert without([head, head, "  x", "said by another", "  y", "KeyboardInterrupt"]) == [
        "said by another"
    ]
    ends = "Terminating processes on user request, this might take some time."
    for broken in ("  Fi", "KeyboardInterrupt", "    ^^^ dataminer"):  # two wrote on one line
        assert run_display._Interrupts()([head, broken + ends]) == [ends]
    assert without(["KeyboardInterrupt", "  z"]) == ["  z"]
    assert without([head, "  cut off"]) == []
    assert without([], last=True) == [head, "  cut off"]
    assert without([head, "  x"], last=True) == [head, "  x"]


def shown(*records: logging.LogRecord) -> list[bool]:
    found = run_display._Filter()
    return [found.filter(one) for one in records]


def test_lines_of_jobs_are_hidden_and_those_that_matter_are_not() -> None:
    assert (
        shown(
            record("Select jobs to execute..."),
            record("Execute 2 jobs...", event="job_started"),
            record("Finished jobid: 3", event="job_finished"),
            record(None, event="progress"),
            record(None, event="job_info", rule_name="extract"),
            record("Job 3 has been submitted with SLURM jobid 12"),
        )
        == [False] * 6
    )
    assert (
        shown(
            record(None, event="job_info", rule_name="weights"),
            record("dataminer: the store has moved"),
            record("Shutting down, this might take some time."),
            record("x", logging.WARNING),
            record("x", logging.ERROR, event="job_error"),
            record("x", logging.ERROR, event="error"),
        )
        == [True] * 6
    )


def test_jobs_that_end_because_the_run_does_are_no_errors() -> None:
    assert shown(
        record("Terminating processes on user request, this might take some time."),
        record("x", logging.ERROR, event="job_error"),
        record("x", logging.ERROR),
    ) == [True, False, True]


def logger_with(name: str) -> logging.Logger:
    logger = logging.Logger("snakemake")
    handler = logging.StreamHandler()
    handler.name = name
    logger.addHandler(handler)
    return logger


@pytest.mark.parametrize(
    ("name", "quiet"), [("of another", ()), (DEFAULT, ("all",)), (DEFAULT, ("progress",))]
)
def test_another_logger_and_silence_are_left_alone(name: str, quiet: tuple[str, ...]) -> None:
    logger = logger_with(name)
    display = RunDisplay(lambda: None, quiet=quiet)
    display.start(logger)
    assert not logger.handlers[0].filters
    assert display.stop() is None


def test_no_error_leaves_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode() -> None:
        raise ValueError("x")

    monkeypatch.setattr(run_display, "FIRST", 0.01)
    logger = logger_with(DEFAULT)
    display = RunDisplay(explode)
    display.start(logger)
    assert logger.handlers[0].filters
    assert display.stop() is None
    assert display.stop() is None, "once more, as when the process ends"
    assert not logger.handlers[0].filters
    assert capsys.readouterr().err == ""


def test_what_others_write_appears_above_the_block_in_whole_lines() -> None:
    command = [sys.executable, "-c", WRITES]
    environment = {"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
    with Terminal(command, ROOT, environment) as window:
        assert window.end() == 1
        assert window.settings_now() == window.settings
    lines = [line.strip("\r") for line in window.text.splitlines()]
    assert "52% done" in window.text
    for line in (f"a warning {'x' * 100}", "to stderr", "to stdout", "of a job", "an error"):
        assert line in lines, window.text
    assert "half a line" in lines
    assert "3%" in lines, "of a line that was written over, the last is kept"
    assert window.seen.endswith(b"\x1b[1A\x1b[2K" * 9), "the block of nine lines is taken away"
