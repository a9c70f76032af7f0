"""YouTube's lists on a loopback server: result pages, playlists and channels, paged and lazy."""

import itertools
import os
import urllib.parse
from collections.abc import Iterator
from typing import Any

from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.utils import ExtractorError, parse_qs

__all__ = ["RigYoutubeSearchURLIE", "RigYoutubeTabIE"]

_VIDEO = "https://www.youtube.com/watch?v={}"


class _RigPagesIE(InfoExtractor):
    def _page(self, path: str, name: str, **query: Any) -> Any:
        requested = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        found = self._download_json(f"{os.environ['YOUTUBE_RIG']}{path}?{requested}", name)
        if isinstance(found, dict) and "error" in found:
            raise ExtractorError(found["error"], expected=True, ie="youtube:tab")
        return found

    def _entries(
        self, path: str, name: str, first: Any = None, **query: Any
    ) -> Iterator[dict[str, Any]]:
        for page in itertools.count():
            found = first if first and not page else self._page(path, name, page=page, **query)
            if not found:
                return
            for entry in found:
                url = _VIDEO.format(entry.get("id"))
                yield {"_type": "url", "ie_key": "RigYoutube", "url": url, **entry}


class RigYoutubeSearchURLIE(_RigPagesIE):
    """``/search?q=…&sp=…&page=0`` and so on: a JSON list of flat entries, empty after the last."""

    _VALID_URL = r"https?://www\.youtube\.com/results\?.+"

    def _real_extract(self, url: str) -> Any:
        requested = parse_qs(url)
        query, sp = requested["search_query"][0], requested.get("sp", [None])[0]
        return self.playlist_result(self._entries("/search", query, q=query, sp=sp), query)


class RigYoutubeTabIE(_RigPagesIE):
    """``/list?of=PATH&page=0``: flat entries, or ``tabs``, or where it ``leads``, or ``error``."""

    _VALID_URL = r"https?://www\.youtube\.com/(?P<id>playlist\?list=.+|(?:@|(?:channel|c|user)/).+)"

    def _real_extract(self, url: str) -> Any:
        name = self._match_id(url)
        first = self._page("/list", name, of=name, page=0)
        if isinstance(first, dict) and "leads" in first:
            return self.url_result(first["leads"], first.get("ie_key"))
        if isinstance(first, dict):
            tabs = [self._real_extract(f"{url}/{tab}") for tab in first["tabs"]]
            return self.playlist_result(tabs, name)
        return self.playlist_result(self._entries("/list", name, first, of=name), name)
