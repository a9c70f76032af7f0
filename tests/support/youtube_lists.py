"""Playlists, channels and result pages for the loopback server that stands in for YouTube."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import Reply, Server

PAGE = 20

FlatEntry = dict[str, Any]


def entries(count: int, start: int = 0, **more: Any) -> list[FlatEntry]:
    """Make flat entries as yt-dlp has them, with ids that tell their place."""
    return [
        {
            "id": f"video{i:06d}",
            "title": f"Video {i}",
            "duration": i + 1,
            "channel": "Someone",
            **more,
        }
        for i in range(start, start + count)
    ]


def add_lists(
    server: Server,
    lists: dict[str, list[FlatEntry] | FlatEntry],
    on_page: Callable[[int], Reply | None] = lambda page: None,
) -> None:
    """Answer for playlists and channels, by the path and query of their links.

    A list of entries comes in pages of 20; a dict is one answer: ``{"tabs": […]}``,
    ``{"leads": link}`` or ``{"error": …}``. ``on_page`` may answer in place of a page.
    """

    def answer(target: str) -> Reply:
        requested = parse_qs(urlsplit(target).query)
        found = lists.get(requested["of"][0], {"error": "The playlist does not exist."})
        return on_page(int(requested["page"][0])) or _page(found, int(requested["page"][0]))

    server.add("/list", answer)


def add_results(server: Server, results: Callable[[str, str | None], list[FlatEntry]]) -> None:
    """Answer searches by their words and their ``sp``, in pages of 20."""

    def answer(target: str) -> Reply:
        requested = parse_qs(urlsplit(target).query)
        return _page(
            results(requested["q"][0], requested.get("sp", [None])[0]), int(requested["page"][0])
        )

    server.add("/search", answer)


def _page(found: list[FlatEntry] | FlatEntry, page: int) -> Reply:
    part = found if isinstance(found, dict) else found[page * PAGE : (page + 1) * PAGE]
    return Reply(200, json.dumps(part).encode(), "application/json")
