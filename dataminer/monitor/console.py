"""A terminal that interprets our own markup, but nothing in untrusted texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

from dataminer.text import inert_lines, is_inert


def console_of(file: IO[str], kind: type[Any] | None = None, **options: Any) -> Any:
    """Return a rich console that shows texts as they are: see :func:`inert_lines`.

    Parameters
    ----------
    file : file
        Where to print.
    kind : type, optional
        The class of the console.
    **options
        Options of rich's console.
    """
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class Inert(kind or Console):  # type: ignore[misc]
        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            if isinstance(renderable, Text) and not is_inert(renderable.plain):
                # before lines are wrapped, so that escaped characters fit
                renderable = renderable.copy()
                renderable.plain = inert_lines(renderable.plain)
            for segment in super().render(renderable, options):
                shown = segment.control or is_inert(segment.text)
                yield segment if shown else Segment(inert_lines(segment.text), segment.style)

    return Inert(file=file, **options)
