"""What strangers wrote, as it is shown: in a terminal, in a log, in an error."""

from __future__ import annotations

import io
import logging
import sys
import unicodedata

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dataminer.errors import DataminerError
from dataminer.monitor.console import console_of
from dataminer.sync.jobs.rule_log import LogFormatter
from dataminer.text import clean, cut, inert, inert_lines, is_inert, shown, tell

ESCAPE, TITLE = "\x1b[2J", "\x1b]0;taken over\x07"
STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
# printable, with nothing to see by themselves
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
UNSEEN = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0}
UNSEEN |= {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), 0x2800}


def test_each_character_that_steers_is_spelled_out_and_no_other_is_touched() -> None:
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        seen = unicodedata.category(c) not in STEERING and code not in UNSEEN
        assert (inert(c) == c) == (c == " " or seen)
        assert inert(c).isprintable()
    assert inert("a\u3000b é 鳥 🐦\n") == "a\\u3000b é 鳥 🐦\\n"
    assert inert_lines("a\r\n\tb\x9b") == "a\\r\n\tb\\x9b"


@pytest.mark.parametrize(
    "text",
    [
        "❤\ufe0f\u200d🔥 👩\u200d🍳 1\ufe0f\u20e3",  # emoji
        "می\u200cخواهم क\u094d\u200dष 葛\U000e0100城",  # Persian, Hindi, a variant of a name
        "שְׁלֹמֹ֔ה Việt ก็้",
    ],
)
def test_scripts_keep_what_they_need(text: str) -> None:
    assert inert(text) == text
    assert clean(text, 99) == text
    assert is_inert(text)


@pytest.mark.parametrize("hidden", ["\ufe0f", "\u200d", "\U000e0101", "\u0310", "\u0489"])
def test_no_letter_carries_a_heap_of_marks_or_a_hidden_text(hidden: str) -> None:
    text = f"x{200 * hidden}y {hidden}"
    spelled = inert(text)
    assert spelled.count(hidden) <= 9
    assert (inert(spelled), is_inert(text)) == (spelled, False)
    assert len(clean(text, 500)) <= 13


@pytest.mark.parametrize(("most", "expected"), [(3, "abc"), (2, "a…"), (9, "abc")])
def test_a_text_is_cut(most: int, expected: str) -> None:
    assert cut("abc", most) == expected


def test_what_is_kept_is_one_short_line() -> None:
    assert clean(f" a{ESCAPE}\nb\u202e ", 9) == "a[2Jb"
    assert clean(100_000 * "ab", 3) == "aba"


def test_what_is_shown_is_inert_and_not_endless() -> None:
    assert shown("\0" * 10, 12) == r"\x00\x00\x0…"


@pytest.mark.parametrize("text", [ESCAPE, TITLE, "\x9b1A", "\u202e", "\ud800"])
def test_errors_logs_and_lines_steer_no_terminal(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = DataminerError(f"{text} is not there", f"look at {text}")
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "said %s", (text,), None)
    tell(text)
    for written in (str(error), error.message, *error.args, capsys.readouterr().out):
        assert inert_lines(written) == written
    assert inert(text) in LogFormatter().format(record)


def test_a_console_obeys_us_and_nobody_else() -> None:
    file = io.StringIO()
    console = console_of(
        file, width=30, force_terminal=True, color_system="standard", no_color=False
    )
    table = Table(title=f"[red]t[/red]{ESCAPE}")
    table.add_column("text", overflow="fold")
    table.add_row(Text(f"{TITLE}abc", style="red"))
    with Live(table, console=console, auto_refresh=False):
        pass
    written = file.getvalue()
    assert r"\x1b]0;taken" in written
    assert r"\x1b[2J" in written
    assert "overabc" in written, "what is spelled out has room"
    assert (ESCAPE in written, TITLE in written, "\x1b[31m" in written) == (False, False, True)
