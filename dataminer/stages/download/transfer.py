"""One attempt to fetch one video's bytes with yt-dlp: resumed, with a deadline and a size limit."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dataminer.errors import ErrorClass, PermanentError
from dataminer.net import ytdlp_options
from dataminer.net.deadline import TransferDeadline
from dataminer.signatures import unsigned
from dataminer.stages.download import plain, policy
from dataminer.stages.download.partial import PART, PartialDownload, RemoteVersion
from dataminer.stages.download.request import DownloadRequest
from dataminer.urls import mask_url

_DIRECT = {"http", "https"}
# many small files, always fetched from the start; anything else is not HTTP, or needs a program
_FRAGMENTS = {"m3u8", "m3u8_native", "http_dash_segments", "http_dash_segments_generator"}
_INCOMPLETE = (PART, ".ytdl")
_CONTENT_TYPE = re.compile(r"\s*([\w.+-]{1,60}/[\w.+-]{1,60})")
_BLOCK = 64 * 1024  # the most bytes read at once, and lost if a connection breaks
_PROGRESS_SECONDS = 5.0
_PARTIAL, _NO_SUCH_RANGE = 206, 416  # statuses of HTTP


class Transfer:
    """Controls yt-dlp while it fetches: where it writes, what it requests, when it stops.

    Parameters
    ----------
    request : DownloadRequest
        The video to fetch.
    unfinished : PartialDownload
        This attempt's folder, with what earlier attempts left.

    Attributes
    ----------
    deadline : TransferDeadline
        The limits of the attempt.
    content_type : str
        The server's name for the type of the file, or of what it sent instead; empty if unnamed,
        or if the video consists of many small files.
    """

    def __init__(self, request: DownloadRequest, unfinished: PartialDownload) -> None:
        self.deadline = TransferDeadline(request.settings)
        self.content_type = ""
        self._name_with = request.file_name
        self._report = request.report
        self._url = request.url.reveal()
        self._settings = request.settings
        self._unfinished = unfinished
        self._next_report = time.monotonic() + _PROGRESS_SECONDS
        self._label = mask_url(self._url)
        self._media_url = ""
        self._list_url = ""  # of a stream's parts, which yt-dlp reads repeatedly
        self._file = ""
        self._source = ""
        self._version: RemoteVersion | None = None
        self._send: Callable[[Any], Any]
        self._check_first: Callable[[Any], None] | None = None  # the answer to a plain link
        self._first_answer: Any = None  # to a plain link, if it is not a file
        self._plain_url = ""

    def attach(self, ydl: Any) -> None:
        """Replace the methods of a ``YoutubeDL`` that this class implements."""
        # yt-dlp would expand %(…)s, $NAME and ~ in its templates and paths: use none
        ydl.prepare_filename = self._path
        self._send, ydl.urlopen = partial(type(ydl).urlopen, ydl), self._urlopen
        ydl._progress_hooks[:] = [self._progress]

    @property
    def options(self) -> dict[str, Any]:
        """The options that yt-dlp needs for this."""
        least = self._settings.min_bytes_per_second * self._settings.rate_window_seconds
        return {
            "continuedl": True,
            "overwrites": True,
            # a block of the slowest transfer that is allowed takes a quarter of the window
            "buffersize": int(min(_BLOCK, max(least / 4, 1024))) if least else _BLOCK,
            "noresizebuffer": True,
            # its progress is not shown, but would be formatted for each block
            "progress_delta": 3600.0,
            "retry_sleep_functions": dict.fromkeys(ytdlp_options.RETRIED, self._sleep),
        }

    def begin(self, info: dict[str, Any]) -> None:
        """Prepare for the format that was chosen.

        Raises
        ------
        PermanentError
            UNSUPPORTED, if its protocol is not HTTP.
        """
        from yt_dlp.networking import Request

        if info.get("protocol") not in _DIRECT | _FRAGMENTS:
            message = f"{self._label}: offers its video only over {info.get('protocol')}"
            raise PermanentError(message, ErrorClass.UNSUPPORTED, "give an http(s) link")
        self._drop_first_answer()
        self.content_type = ""
        self._resume(str(info.get("ext")), f"{unsigned(self._url)} {info.get('format_id')}")
        direct = info.get("protocol") in _DIRECT
        url = Request(info["url"]).url if info.get("url") else ""
        self._media_url, self._list_url = (url, "") if direct else ("", url)

    def fetch_plain(
        self, ydl: Any, suffix: str, judge: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any] | None:
        """Fetch a plain link to a file.

        Parameters
        ----------
        ydl : YoutubeDL
            The one that this is attached to.
        suffix : str
            Of the link, see :func:`dataminer.stages.download.plain.suffix_of`.
        judge : callable
            Gets the description of the file before its first byte; raises to refuse the file.

        Returns
        -------
        dict or None
            The description; None if the link leads to something else, or did in an earlier
            attempt: then yt-dlp continues.
        """
        from yt_dlp.networking import Request

        source = f"{unsigned(self._url)} {suffix}"
        if self._unfinished.is_of_another(source):
            return None
        found: dict[str, Any] = {}
        self._check_first = partial(_accept_file, ydl, judge, found)
        self._media_url = self._plain_url = Request(self._url).url
        self._resume(suffix, source)
        if not self._download(ydl):
            return None
        self._rename(found["ext"])
        return found

    def _download(self, ydl: Any) -> bool:
        """Let yt-dlp download a plain link; return False if the answer is not a file."""
        from yt_dlp.downloader.http import HttpFD

        downloader = HttpFD(ydl, ydl.params)
        downloader._progress_hooks[:] = [self._progress]
        try:
            downloader.download(str(self._unfinished.folder / self._file), {"url": self._url})
        except plain.NotAFile as other:
            self.deadline.transfer_ends()
            self._first_answer, self._file, self._media_url = other.response, "", ""
            self.content_type = _content_type(other.response)
            return False
        except plain.FirstRequestFailed as error:
            raise (error.__cause__ or error) from None
        finally:
            ydl.fetching = False
        return True

    def finished(self) -> list[Path]:
        """Return the files that are complete, and check their size."""
        self.deadline.transfer_ends()
        entries = self._unfinished.folder.glob("[!.]*")
        found = [path for path in entries if path.suffix not in _INCOMPLETE]
        for path in found:
            policy.judge_size(path.stat().st_size, self._settings.policy, self._label)
        return found

    def _resume(self, ext: str, source: str) -> None:
        self._file, self._source = self._file_name(ext), source
        self._version = self._unfinished.begin(self._file, source)

    def _rename(self, ext: str) -> None:
        """Give the file the suffix that it has at the end of the redirects."""
        name = self._file_name(ext)
        if name != self._file:
            os.replace(self._unfinished.folder / self._file, self._unfinished.folder / name)

    def _path(self, info: dict[str, Any], *_: Any, **__: Any) -> str:
        return str(self._unfinished.folder / self._file_name(str(info.get("ext"))))

    def _file_name(self, ext: str) -> str:
        return self._name_with(f".{ext}")

    # ---- requests

    def _urlopen(self, request: Any) -> Any:
        """Open a link for yt-dlp; limit the size of any answer that is not written to disk."""
        from dataminer.net.ytdlp_limits import bounded

        self.deadline.check()
        url = getattr(request, "url", None)
        if self._first_answer and url == self._plain_url and request.method == "GET":
            answer, self._first_answer = self._first_answer, None
            return bounded(answer)
        if self._check_first:
            response = self._request_first(request)
        else:
            whole_file = self._media_url and url == self._media_url
            response = (self._fetch if whole_file else self._open)(request)
            if not whole_file:
                bounded(response, part=bool(self._file) and url != self._list_url)
        if self._file:  # a format was chosen, and this is its data
            self.deadline.transfer_begins()
        return response

    def _open(self, request: Any) -> Any:
        with self.deadline.paused():
            response = self._send(request)
        if self._check_first:
            self.deadline.transfer_begins()
            try:
                self._check_first(response)
            except plain.NotAFile:
                raise
            except BaseException:
                response.close()
                raise
        return response

    def _drop_first_answer(self) -> None:
        """Close an answer that yt-dlp did not request before it chose a format."""
        if self._first_answer:
            self._first_answer.close()
            self._first_answer = None

    def _sleep(self, n: int) -> float:
        """Wait before the next try; return how much longer yt-dlp should wait."""
        self.deadline.sleep(ytdlp_options.retry_delay(n))
        return 0.0

    def _fetch(self, request: Any) -> Any:
        """Request the file, or the rest of it if it is still the same file."""
        from yt_dlp.networking.exceptions import HTTPError

        resumed = _first_byte(request) > 0
        condition = self._version.condition if self._version else None
        if resumed and condition:
            request.headers["If-Range"] = condition
        try:
            response = self._open(request)
        except HTTPError as error:
            if not resumed or error.status != _NO_SUCH_RANGE:
                raise
            error.response.close()
            response = self._open_whole(request)
        version = RemoteVersion.of(response.headers)
        if (
            resumed
            and response.status == _PARTIAL
            and self._version
            and version.differs(self._version)
        ):
            response.close()  # a server that ignores If-Range
            response = self._open_whole(request)
            version = RemoteVersion.of(response.headers)
        if response.status != _PARTIAL or not resumed:
            self._unfinished.restart(self._file, self._source, version)
            self._version = version
        self.content_type = _content_type(response)
        self._judge(response, version)
        return response

    def _request_first(self, request: Any) -> Any:
        """Request a plain link, and check whether the answer is a file."""
        from yt_dlp.networking.exceptions import HTTPError, TransportError

        try:
            return self._fetch(request)
        except (HTTPError, TransportError) as error:
            raise plain.FirstRequestFailed from error
        finally:
            self._check_first = None

    def _open_whole(self, request: Any) -> Any:
        """Request all of the file: yt-dlp finds no range in the answer and starts from zero."""
        whole = request.copy()
        for name in ("Range", "If-Range"):
            whole.headers.pop(name, None)
        return self._open(whole)

    def _judge(self, response: Any, version: RemoteVersion) -> None:
        try:
            policy.judge_size(version.size, self._settings.policy, self._label)
        except BaseException:
            response.close()
            raise

    # ---- bytes

    def _progress(self, status: dict[str, Any]) -> None:
        """Handle yt-dlp's progress after each block; report a line every few seconds."""
        done = status.get("status") == "finished"
        received = status.get("downloaded_bytes") or 0
        if done:
            self.deadline.transfer_ends()
        else:
            self.deadline.received(received)
            policy.judge_size(received, self._settings.policy, self._label, whole=False)
            if time.monotonic() < self._next_report:
                return
        self._next_report = time.monotonic() + _PROGRESS_SECONDS
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        of = f" of {total / 1e6:.1f}" if total and not done else ""
        state = "downloaded" if done else "downloading"
        self._report(f"{state} {received / 1e6:.1f}{of} MB")


def _accept_file(
    ydl: Any, judge: Callable[[dict[str, Any]], None], found: dict[str, Any], response: Any
) -> None:
    """Describe and judge the answer to a plain link; raise NotAFile if it is something else."""
    found.update(plain.describe_response(response))
    judge(found)
    ydl.request_context.limiter.report_success()
    ydl.fetching = True


def _first_byte(request: Any) -> int:
    from yt_dlp.utils import parse_http_range

    start: int | None = parse_http_range(request.headers.get("Range"))[0]
    return start or 0


def _content_type(response: Any) -> str:
    named = _CONTENT_TYPE.match(response.headers.get("Content-Type") or "")
    return named[1].lower() if named else ""
