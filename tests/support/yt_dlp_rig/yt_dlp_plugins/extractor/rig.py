"""YouTube on a loopback server: takes the place of yt-dlp's own extractors in tests.

Extractors are distinguished by their IE_NAME: with YouTube's own names the real ones would win.
"""

import functools
import inspect
import itertools
import os
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from yt_dlp.extractor.common import InfoExtractor, SearchInfoExtractor
from yt_dlp.utils import ExtractorError

from dataminer.net import addresses

__all__ = ["RigYoutubeIE", "RigYoutubeSearchIE"]


def _server() -> str:
    return os.environ["YOUTUBE_RIG"]


# The rig is this process's YouTube, so its address is as public as YouTube's; no other one is.
_scope_of: Callable[[tuple[Any, ...]], addresses.Scope] = inspect.unwrap(addresses.scope_of)


@functools.wraps(_scope_of)
def _scope_with_rig(socket_address: tuple[Any, ...]) -> addresses.Scope:
    rig = urllib.parse.urlsplit(_server() if "YOUTUBE_RIG" in os.environ else "")
    if socket_address[:2] == (rig.hostname, rig.port):
        return addresses.Scope.PUBLIC
    return _scope_of(socket_address)


addresses.scope_of = _scope_with_rig


class RigYoutubeSearchIE(SearchInfoExtractor):
    """``/search?q=…&page=0`` and so on: a JSON list of flat entries, empty after the last."""

    _SEARCH_KEY = "ytsearch"

    def _search_results(self, query: str) -> Iterator[dict[str, Any]]:
        for page in itertools.count():
            requested = urllib.parse.urlencode({"q": query, "page": page})
            entries = self._download_json(f"{_server()}/search?{requested}", query)
            if not entries:
                return
            for entry in entries:
                url = f"https://www.youtube.com/watch?v={entry['id']}"
                yield {"_type": "url", "ie_key": "RigYoutube", "url": url, **entry}


class RigYoutubeIE(InfoExtractor):
    """``/watch?v=ID``: a JSON object of yt-dlp's fields, ``{"error": …}`` or ``{"raise": …}``."""

    _VALID_URL = r"https?://www\.youtube\.com/watch\?v=(?P<id>[\w-]{11})"

    def _real_extract(self, url: str) -> dict[str, Any]:
        video_id = self._match_id(url)
        info = self._download_json(f"{_server()}/watch?v={video_id}", video_id)
        if "error" in info:
            raise ExtractorError(info["error"], expected=True, ie="youtube")
        if info.get("raise") == "geo":
            self.raise_geo_restricted(countries=["FR"])
        if info.get("raise") == "drm":
            self.report_drm(video_id)
        return {"id": video_id, "extractor": "youtube", **info}
