"""yt-dlp with one way to the network: each request waits for a limiter, each address is checked.

Import it only if needed: it loads yt-dlp.
"""

from __future__ import annotations

import functools
from typing import Any

import yt_dlp
from yt_dlp.networking import RequestDirector
from yt_dlp.networking.common import Response

from dataminer.errors import ErrorClass, PermanentError
from dataminer.net.ytdlp_handler import LimitedRH, RequestContext
from dataminer.net.ytdlp_limits import ListBudget, WrappedError, check_count

_NO_FFMPEG = "/nonexistent/ffmpeg"


class YoutubeDL(yt_dlp.YoutubeDL):  # type: ignore[misc]
    """yt-dlp's own, whose every HTTP request is rate-limited and goes to an allowed address.

    That applies to pages, formats, media and their fragments, to each hop of a redirect and to
    yt-dlp's own retries. A request that is refused for now (429, a check for robots) is repeated
    when the limiter permits it. There is no other way to the network: no ffmpeg, no ``ftp://``.

    Parameters
    ----------
    options : dict
        yt-dlp's options.
    request_context : RequestContext
        What the first requests are subject to; may be replaced between two links.
    """

    def __init__(self, options: dict[str, Any], request_context: RequestContext) -> None:
        self.request_context, self.fetching = request_context, False
        self.list_budget = ListBudget()
        # ffmpeg would fetch by itself, bypassing the limiter; nothing here needs it
        super().__init__({**options, "ffmpeg_location": _NO_FFMPEG}, auto_init=False)

    def extract_info(self, *args: Any, **kwargs: Any) -> Any:
        """Extract with all extractors, which take longer to load than a plain file to fetch."""
        if not self._ies:
            self.add_default_info_extractors()
        self.list_budget = ListBudget()
        return super().extract_info(*args, **kwargs)

    def process_video_result(self, info: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Choose a format, unless there are too many, from whichever extractor."""
        check_count(info.get("formats"))
        return super().process_video_result(info, *args, **kwargs)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """Use our request handler only, whichever others are installed."""
        return super().build_request_director([functools.partial(LimitedRH, owner=self)])

    def urlopen(self, req: Any) -> Response:
        """Open a link.

        Raises
        ------
        PermanentError
            UNSUPPORTED, if it leads to an address that is not allowed.
        TransientError
            If the limiter gives no permit for longer than this job waits.
        """
        try:
            response = super().urlopen(req)
        except WrappedError as wrapped:
            raise wrapped.reason from None
        if self.fetching:
            self.request_context.limiter.report_success()
        return response

    def dl(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the media: pages and formats have arrived, so an answer now proves success."""
        self.fetching = True
        try:
            return super().dl(*args, **kwargs)
        finally:
            self.fetching = False

    def report_error(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Raise an error of ours if only ffmpeg could fetch the media."""
        if "ffmpeg could not be found" in message:
            raise PermanentError("its stream can only be fetched by ffmpeg", ErrorClass.UNSUPPORTED)
        super().report_error(message, *args, **kwargs)
