"""Find the prose in the files of the project: texts, comments, docstrings and messages."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_STRING = re.compile(r"(?s)[a-zA-Z]{0,2}(\"\"\"|'''|\"|')(.*)\1")
_FIELD = re.compile(r"\{[^{}\n]*\}")
_ESCAPE = re.compile(r"\\[a-z]|\\\n")
_WORDS = re.compile(r"(?:[A-Za-z][a-z'-]*[ \n,]+){2}[A-Za-z]")
_FENCE = re.compile(r"(?ms)^( *)(```|~~~).*?^\1\2 *$")
_CODE = re.compile(r"(?s)(``?)(?!`)(.+?)\1")
_LINK = re.compile(r"(?<=\])\([^)\s]*\)|https?://\S+")


class Text(NamedTuple):
    """A piece of prose, and the line that it begins at."""

    path: Path
    line: int
    text: str


def prose(path: Path) -> Iterator[Text]:
    """Yield the prose of a file: of Markdown all but code, of other files comments and strings.

    Parameters
    ----------
    path : Path
        Markdown, reStructuredText, YAML, Python, or Snakemake's rules.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".md", ".rst"):
        text = _FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
        yield Text(path, 1, _LINK.sub("", _without_code(text)))
    elif path.suffix == ".yaml":
        comments = (line.partition("#")[2] for line in text.split("\n"))
        yield Text(path, 1, _without_code("\n".join(comments)))
    else:
        yield from (Text(path, line, part) for line, part in _of_python(text))


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield runs of comments, docstrings, and messages, which may consist of several strings."""
    run: list[tokenize.TokenInfo] = []
    before = tokenize.NEWLINE
    for token in _tokens(text):
        if run and token.type not in (run[0].type, tokenize.NL):
            yield from _joined(run)
            run = []
        is_docstring = before in (tokenize.NEWLINE, tokenize.INDENT)
        if token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and (is_docstring or token.start[0] == token.end[0])
        ):  # other strings of several lines are programs: SQL, HTML
            run.append(token)
        if token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.DEDENT):
            before = token.type


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """Yield Python's tokens, with each f-string as one: since Python 3.12 it is several."""
    lines = text.splitlines(keepends=True)
    opened: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":
            opened.append(token)
        elif name == "FSTRING_END":
            (row, column), (last, end) = opened.pop().start, token.end
            if not opened:
                inside = [*lines[row - 1 : last - 1], lines[last - 1][:end]]
                source = "".join(inside)[column:]
                yield tokenize.TokenInfo(tokenize.STRING, source, (row, column), (last, end), "")
        elif not opened:
            yield token


def _joined(run: list[tokenize.TokenInfo]) -> Iterator[tuple[int, str]]:
    first = run[0].start[0]
    text, line = "", first
    for token in run:
        text += "\n" * (token.start[0] - line) + _inside(token)
        line = token.end[0]
    if _WORDS.search(text):
        yield first, _without_code(text)


def _inside(token: tokenize.TokenInfo) -> str:
    """Return what a comment or a string says, without fields and escapes."""
    if token.type == tokenize.COMMENT:
        return token.string.lstrip("#: ")
    match = _STRING.fullmatch(token.string)
    assert match
    text = _ESCAPE.sub(lambda escape: "\n" * escape[0].count("\n") or " ", match[2])
    return _FIELD.sub("X", text)


def _without_code(text: str) -> str:
    """Put X for what stands in backticks."""
    return _CODE.sub(lambda code: code[1] + "X" + "\n" * code[2].count("\n") + code[1], text)
