"""Puts a loopback server in YouTube's place, for this process or for a subprocess."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import Reply, Server

RIG = Path(__file__).parent / "yt_dlp_rig"
_PAGE = 20


def environment(server: Server) -> dict[str, str]:
    """Return what a subprocess needs in its environment to find the rig."""
    paths = [str(RIG), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "YOUTUBE_RIG": server.url}


@contextmanager
def installed(server: Server) -> Iterator[None]:
    """Let yt-dlp in this process find the rig's extractors, and nothing after it."""
    from yt_dlp import globals as state
    from yt_dlp.extractor import import_extractors
    from yt_dlp.plugins import load_all_plugins

    import_extractors()
    kept = [(i, i.value) for i in (state.extractors, state.plugin_ies, state.all_plugins_loaded)]
    with (
        mock.patch.object(sys, "path", [str(RIG), *sys.path]),
        mock.patch.dict(os.environ, YOUTUBE_RIG=server.url),
    ):
        importlib.invalidate_caches()
        load_all_plugins()
        try:
            yield
        finally:
            for indirect, value in kept:
                indirect.value = value
            for name in [name for name in sys.modules if name.startswith("yt_dlp_plugins")]:
                del sys.modules[name]


def add_video(server: Server, video_id: str, *answers: dict[str, Any] | Reply) -> str:
    """Answer for one video with yt-dlp's fields, an error or any reply; return its link.

    Of several answers each is given once, the last one ever after. ``{"error": …}`` is what YouTube
    says; ``{"raise": …}`` names what yt-dlp makes of it itself.
    """
    known: dict[str, list[dict[str, Any] | Reply]] = vars(server).setdefault("rig_videos", {})
    known[video_id] = list(answers)

    def watch_page(target: str) -> Reply:
        requested = parse_qs(urlsplit(target).query)["v"][0]
        pages(server)[requested] += 1
        left = known.get(requested, [{"error": "Video unavailable"}])
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Reply):
            return found
        return Reply(200, json.dumps(found).encode(), "application/json")

    server.add("/watch", watch_page)
    return f"https://www.youtube.com/watch?v={video_id}"


def pages(server: Server) -> Counter[str]:
    """Return how often each video's page was asked for."""
    counted: Counter[str] = vars(server).setdefault("rig_pages", Counter())
    return counted


def add_search(server: Server, entries: list[dict[str, Any]]) -> None:
    """Answer every search with these entries, in pages of 20."""

    def search(target: str) -> Reply:
        page = int(parse_qs(urlsplit(target).query)["page"][0])
        part = entries[page * _PAGE : (page + 1) * _PAGE]
        return Reply(200, json.dumps(part).encode(), "application/json")

    server.add("/search", search)
