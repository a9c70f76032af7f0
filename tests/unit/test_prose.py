"""The check of the project's English finds prose in files, and wrong wordings in prose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tools.prose.__main__ import Finding, compare, find, read_open
from tools.prose.texts import Text, prose

PYTHON = '''\
"""A module."""

QUERY = """
    SELECT anew FROM held
"""
# a comment that goes
# on in `anew` here
def f(x):
    """Do things anew.

    And more.
    """
    g("anew", f"no {x['a']} is "
      "left of this\\n")
'''


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str], list[str]]:
    def messages(text: str) -> list[str]:
        path = tmp_path / "a.md"
        path.write_text(text)
        return [finding.message for finding in find(prose(path))]

    return messages


def test_prose_of_python_is_its_comments_docstrings_and_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(PYTHON)
    assert [(text.line, text.text) for text in prose(path)] == [
        (6, "a comment that goes\non in `X` here"),
        (9, "Do things anew.\n\n    And more.\n    "),
        (13, "no X is \nleft of this "),
    ]


def test_prose_of_markdown_is_all_but_code_and_targets(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("See [it](anew.md) in `anew`:\n\n```\nanew\n```\n\nSee it anew.\n")
    (text,) = prose(path)
    assert text.text.count("anew") == 1
    assert [finding.line for finding in find([text])] == [7]


@pytest.mark.parametrize(
    "sentence",
    [
        "take every so manieth frame",
        "from the begin of one download",
        "the embeddings are made anew",
        "A model that is missing is told of",
        "frames are held against thresholds",
        "the frame that nothing stands\n    for yet",
        "write a list and say `dataminer populate`",
        "`files`: a file an image; `tar`: one archive a video, if needed",
        "nothing half is ever taken for whole",
        "a new one is no harm",
        "None where it has no table",
        "uses a GPU where there is one",
        "Stop after so many frames",
        "it fails in passing",
        "what is reported to be borne from a guest",
        "Of runs with other settings, the strictest counts",
        "Least share of coarse detail that is there finely too",
        "Have the next snakemake run dedup of a project again",
        "Rows take up results that they did not know of",
        "At the end stands a dataset to look at",
        "else say it again",
        "Data centres are asked for proof soon",
        "the policy, which asks for what the source does not say",
        "the the frames",
    ],
)
def test_wordings_that_are_not_english_are_found(
    sentence: str, found: Callable[[str], list[str]]
) -> None:
    assert any("dataminer.wordings" in message for message in found(sentence))


def test_general_rules_are_checked(found: Callable[[str], list[str]]) -> None:
    assert found("At this point in time, the end result is final.")


@pytest.mark.parametrize(
    "sentence",
    [
        "keep every N-th frame, one file per image",
        "Show where the database is, and run `dataminer populate`.",
        "A video a project's settings choose is compared with the others.",
        'A "straight quote" and 3 x 3 pixels ... are fine.',
        "Look for every image.",
    ],
)
def test_plain_english_passes(sentence: str, found: Callable[[str], list[str]]) -> None:
    assert found(sentence) == []


def test_findings_name_file_and_line() -> None:
    texts = [Text(Path("a.md"), 5, "good\nmade anew"), Text(Path("b.md"), 7, "made anew")]
    assert [(finding.path, finding.line) for finding in find(texts)] == [("a.md", 6), ("b.md", 7)]


def test_open_findings_may_neither_grow_nor_stay_listed_once_they_are_gone() -> None:
    two = [Finding("a.py", 1, "one"), Finding("a.py", 2, "two")]
    assert list(compare(two, {"a.py": 2})) == []
    assert list(compare(two, {"a.py": 1})) == ["a.py:1: one", "a.py:2: two"]
    (better,) = compare(two[:1], {"a.py": 2})
    assert "a.py has 1 findings, and open.txt lists 2" in better
    assert list(compare([], {"a.py": 2}))


def test_the_list_of_open_findings_names_files_that_exist() -> None:
    assert [path for path in read_open() if not (ROOT / path).is_file()] == []
