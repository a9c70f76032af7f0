"""Templates of the pages, in which nothing that a stranger wrote is read as markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from markupsafe import Markup

from dataminer.text import shown

_LONGEST = 2000  # characters of a text
_TEMPLATES = Path(__file__).with_name("templates")


def render(name: str, folder: Path = _TEMPLATES, /, **values: Any) -> Markup:
    """Return what a template makes of some values.

    Parameters
    ----------
    name : str
        The template, without its ending ``.html.jinja``.
    folder : Path
        Where it is, along with those that it includes; by default, the report's.
    **values
        What it shows: ``Markup`` as it is, anything else as :func:`text`.
    """
    return Markup(environment(folder).get_template(f"{name}.html.jinja").render(values))


def text(value: Any) -> Markup:
    """Return a value as text of a page: escaped, inert and bounded; markup stays as it is."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup()
    return Markup(html.escape(shown(str(value), _LONGEST)))


def number(value: float) -> str:
    """Return a coordinate or a count with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@cache
def environment(folder: Path = _TEMPLATES) -> Environment:
    """Return the Jinja2 environment of the templates in a folder.

    The result of each expression in a template goes through :func:`text`. Escaping alone would
    keep the characters that turn or hide text.
    """
    made = Environment(
        loader=FileSystemLoader(folder),
        extensions=[_JoinLines],
        autoescape=True,
        auto_reload=False,
        finalize=text,
        undefined=StrictUndefined,
    )
    made.filters |= {"number": number, "thousands": "{:,}".format}
    return made


class _JoinLines(Extension):
    r"""Lets templates be indented while pages stay small.

    A line break disappears, together with the spaces around it, next to a tag, a statement or an
    expression. Inside a sentence it becomes a space. A template that wants a line break writes
    ``{{ "\n" }}``.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            value = _joined(token.value) if token.type == "data" else token.value
            yield Token(token.lineno, token.type, value)


def _joined(lines: str) -> str:
    lines = re.sub(r"(?:\A|(?<=>))\s*\n\s*|\s*\n\s*(?=<|\Z)", "", lines)
    return re.sub(r"\s*\n\s*", " ", lines)
