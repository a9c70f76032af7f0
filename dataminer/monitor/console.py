"""A terminal that obeys what we write to it, and nothing that strangers wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

from dataminer.text import inert_lines, is_inert


def console_of(file: IO[str], kind: type[Any] | None = None, **options: Any) -> Any:
    """Return rich's console, which shows texts as they are: see :func:`inert_lines`.

    Parameters
    ----------
    file : file
        Where to.
    kind : type, optional
        A kind of rich's console.
    **options
        Of rich's console.
    """
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class Inert(kind or Console):  # type: ignore[misc]
        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            if isinstance(renderable, Text) and not is_inert(renderable.plain):
                # before lines are broken, so that what is spelled out has room
                renderable = renderable.copy()
                renderable.plain = inert_lines(renderable.plain)
            for segment in super().render(renderable, options):
                shown = segment.control or is_inert(segment.text)
                yield segment if shown else Segment(inert_lines(segment.text), segment.style)

    return Inert(file=file, **options)
