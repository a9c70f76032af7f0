"""Markup in which nothing that a stranger wrote is read as markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from dataminer.text import inert_lines, shown


class Html(str):
    """Text that is markup already, and is taken as it is."""

    __slots__ = ()


_MOST = 2000
# elements without an end tag
_VOID = frozenset({"br", "img", "link", "meta"})


def text(value: Any) -> Html:
    """Return a value as text of a page, escaped and inert; markup is returned as it is."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(inert_lines(str(value)), quote=True))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
        Of the element.
    *children
        What it holds: markup, anything else as text of at most ``_MOST`` characters; None is left
        out.
    **attributes
        A trailing underscore is dropped (``class_``), others become hyphens. None and False are
        left out, True is an attribute without a value, floats keep two decimals.
    """
    marks = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{marks}>")
    return Html(f"<{name}{marks}>{join(children)}</{name}>")


def join(parts: Iterable[Any]) -> Html:
    """Return parts one after the other."""
    return Html("".join(_child(part) for part in parts if part is not None))


def _child(part: Any) -> Html:
    return part if isinstance(part, Html) else text(shown(str(part), _MOST))


def number(value: float) -> str:
    """Return a coordinate or a count with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _attribute(key: str, value: Any) -> str:
    key = key.rstrip("_").replace("_", "-")
    key = {"viewbox": "viewBox", "preserveaspectratio": "preserveAspectRatio"}.get(key, key)
    if value is None or value is False:
        return ""
    if value is True:
        return f" {key}"
    return f' {key}="{text(number(value) if isinstance(value, float) else value)}"'
