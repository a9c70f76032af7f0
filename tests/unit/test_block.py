"""The text of a run's progress: the block of a terminal, and the line of a file."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from dataminer.monitor.progress.run import RunProgress
from dataminer.monitor.progress.stage import StageProgress
from dataminer.monitor.terminal.block import block, pauses_until, plain
from tests.support.progress import PAUSE, PROGRESS

AT_80 = """\
birds  52% done, after 12 min
download  ━━━━━━━━━━━━╍┄┄┄┄  150 of 200  1.2 GB, 1.6 MB/s  12.0/min
extract   ━━━━━━━━╍┄┄┄┄┄┄┄┄  100 of 200     31,200 frames   8.1/min  12 min left
filter    ━━━━━╍┄┄┄┄┄┄┄┄┄┄┄   60 of 200     15,023 frames   120/min   1 min left
running: 4 download, 2 extract
dedup waiting, detect waiting, report waiting
2 failed: 1 corrupt, 1 empty
4 to be tried again: 4 bot_check
youtube pauses until 2000-01-02 14:30:00 UTC: it asks to sign in and confirm th…
"""
AT_120 = """\
birds  52% done, after 12 min
download  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╍┄┄┄┄┄┄┄┄┄┄┄┄┄┄  150 of 200  1.2 GB, 1.6 MB/s  12.0/min
extract   ━━━━━━━━━━━━━━━━━━━━━━━━━━━━╍┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄  100 of 200     31,200 frames   8.1/min  12 min left
filter    ━━━━━━━━━━━━━━━━━╍┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄   60 of 200     15,023 frames   120/min   1 min left
running: 4 download, 2 extract
dedup waiting, detect waiting, report waiting
2 failed: 1 corrupt, 1 empty
4 to be tried again: 4 bot_check
youtube pauses until 2000-01-02 14:30:00 UTC: it asks to sign in and confirm that you are not a bot
"""  # noqa: E501
LINE = (
    "download 150 of 200 (1.2 GB, 1.6 MB/s, 12.0/min); "
    "extract 100 of 200 (31,200 frames, 8.1/min, 12 min left); "
    "filter 60 of 200 (15,023 frames, 120/min, 1 min left); "
    "running: 4 download, 2 extract; "
    "dedup waiting, detect waiting, report waiting; "
    "2 failed: 1 corrupt, 1 empty; "
    "4 to be tried again: 4 bot_check; "
    "youtube pauses until 2000-01-02 14:30:00 UTC: "
    "it asks to sign in and confirm that you are not a bot; "
    "52% done, after 12 min"
)


def drawn(progress: RunProgress, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(block(progress))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@pytest.mark.parametrize(("width", "text"), [(80, AT_80), (120, AT_120)])
def test_the_block_fits_its_terminal(width: int, text: str) -> None:
    assert drawn(PROGRESS, width) == text
    assert max(map(len, text.splitlines())) <= width


def test_the_line_of_a_file_tells_the_same() -> None:
    assert plain(PROGRESS) == LINE


def test_time_is_left_in_all_once_it_is_known_of_all_stages() -> None:
    known = replace(PROGRESS, left_seconds=4000.0, pauses=[])
    assert drawn(known, 80).startswith("birds  52% done, about 1 h 06 min left, after 12 min\n")
    through = [replace(stage, done=198, failed=2) for stage in PROGRESS.stages]
    text = drawn(replace(known, stages=through), 80)
    assert text.startswith("birds  all videos are through, after 12 min\n")
    assert text.count(" done\n") == 3
    assert "/min" not in text, "what is done has no rate"


def test_a_database_that_is_away_and_a_run_that_stands_still_are_told() -> None:
    lost = replace(PROGRESS, trouble="connection refused", idle_seconds=600.0, pauses=[])
    assert drawn(lost, 80).splitlines()[-2:] == [
        "no job has worked for 10 min",
        "the database does not answer, trying again: connection refused",
    ]


def test_bytes_of_downloads_under_way_count() -> None:
    first = StageProgress("download", 1, running=1, coming=700_000_000, size_per_second=5e6)
    text = drawn(replace(PROGRESS, stages=[first]), 80)
    assert " 0 of 1  700 MB, 5.0 MB/s\n" in text
    assert "\nrunning: 1 download\n" in text


def test_large_numbers_fit_too() -> None:
    size = 999_900_000_000
    numbers = (100_000, 99_000, 1, 32, size, 1234.0, 999.9e6, 86_000.0)
    names = ("download", "extract", "embed", "filter")
    large = replace(PROGRESS, stages=[StageProgress(name, *numbers) for name in names])
    text = drawn(replace(large, stages=[*large.stages[:1], *PROGRESS.stages[1:]]), 80)
    assert "99,000 of 100,000" in text
    assert "23 h 53 min left\n" in text
    assert "\nrunning: 32 download, 32 extract, 32 embed, 32 filter\n" in drawn(large, 80)
    assert max(map(len, text.splitlines())) <= 80


def test_datasets_of_several_projects_are_counted() -> None:
    several = replace(
        PROGRESS,
        projects=["a", "b", "c", "d", "e"],
        datasets={"dedup": {"waiting": 3, "running": 1, "done": 1}},
    )
    text = drawn(several, 80)
    assert text.startswith("a, b, c and 2 more  52% done")
    assert "\ndedup 1 of 5 (1 running)\n" in text


def test_a_pause_that_ends_today_needs_no_day() -> None:
    assert pauses_until(PAUSE, PAUSE["open_until"]) == "pauses until 14:30:00 UTC"
    assert pauses_until({**PAUSE, "seconds_left": 0}) == "pauses until one job has tried it again"


def test_what_strangers_wrote_is_no_markup() -> None:
    strange = replace(PROGRESS, pauses=[{**PAUSE, "reason": "[bold]x[/]"}])
    assert "[bold]x[/]" in drawn(strange, 120)
