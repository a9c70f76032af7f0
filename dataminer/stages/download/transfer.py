"""One attempt at fetching one video's bytes with yt-dlp: resumed, watched, judged by its size."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.net import ytdlp_options
from dataminer.net.deadline import TransferDeadline
from dataminer.signatures import unsigned
from dataminer.stages.download import plain, policy
from dataminer.stages.download.partial import PART, PartialDownload, RemoteVersion
from dataminer.urls import mask_url

Report = Callable[[str], None]

_DIRECT = {"http", "https"}
# many small files, begun anew each time; anything else is not HTTP, or needs another program
_FRAGMENTS = {"m3u8", "m3u8_native", "http_dash_segments", "http_dash_segments_generator"}
_SCRATCH = (PART, ".ytdl")
_CONTENT_TYPE = re.compile(r"\s*([\w.+-]{1,60}/[\w.+-]{1,60})")
_BLOCK = 64 * 1024  # most bytes read at once, and lost when a connection breaks
_PROGRESS_SECONDS = 5.0
_PARTIAL, _NO_SUCH_RANGE = 206, 416  # statuses of HTTP


class Transfer:
    """What yt-dlp is told while it fetches: where to write, what to ask for, when to stop.

    Parameters
    ----------
    url : str
        What was asked for.
    kept : PartialDownload
        This attempt's folder, with what earlier ones left.
    name : callable
        Gives the finished file's name for yt-dlp's suffix.
    settings : DownloadConfig
        Limits.
    say : callable
        Is told how far it is, one line every few seconds.

    Attributes
    ----------
    content_type : str
        What the server calls the file, or what it sends in place of one; empty if it says nothing,
        or sends many small files.
    """

    def __init__(
        self,
        url: str,
        kept: PartialDownload,
        name: Callable[[str], str],
        settings: DownloadConfig,
        say: Report,
    ) -> None:
        self.watch = TransferDeadline(settings)
        self.content_type = ""
        self._url = url
        self._kept = kept
        self._name = name
        self._settings = settings
        self._say = say
        self._next_line = time.monotonic() + _PROGRESS_SECONDS
        self._shown = mask_url(url)
        self._media = ""
        self._list = ""  # of a stream's parts, which yt-dlp reads again
        self._file = ""
        self._source = ""
        self._version: RemoteVersion | None = None
        self._send: Callable[[Any], Any]
        self._look: Callable[[Any], None] | None = None  # at the answer of a plain link
        self._answer: Any = None  # to the first request, if that was no file
        self._given = ""

    def attach(self, ydl: Any) -> None:
        """Take the place of the methods of a ``YoutubeDL`` that this concerns."""
        # in its templates and paths yt-dlp expands %(…)s, $NAME and ~: let it have none
        ydl.prepare_filename = self._path
        self._send, ydl.urlopen = partial(type(ydl).urlopen, ydl), self._urlopen
        ydl._progress_hooks[:] = [self._progress]

    @property
    def options(self) -> dict[str, Any]:
        """What yt-dlp must be told besides."""
        least = self._settings.min_bytes_per_second * self._settings.rate_window_seconds
        return {
            "continuedl": True,
            "overwrites": True,
            # a block of the slowest transfer that is allowed takes a quarter of the window
            "buffersize": int(min(_BLOCK, max(least / 4, 1024))) if least else _BLOCK,
            "noresizebuffer": True,
            # nothing is shown of it, but it would be formatted for each block
            "progress_delta": 3600.0,
            "retry_sleep_functions": dict.fromkeys(ytdlp_options.RETRIED, self._rest),
        }

    def begin(self, info: dict[str, Any]) -> None:
        """Prepare for the format that was chosen.

        Raises
        ------
        PermanentError
            UNSUPPORTED: it would not come over HTTP.
        """
        from yt_dlp.networking import Request

        if info.get("protocol") not in _DIRECT | _FRAGMENTS:
            message = f"{self._shown}: offers its video only over {info.get('protocol')}"
            raise PermanentError(message, ErrorClass.UNSUPPORTED, "give an http(s) link")
        self._drop_answer()
        self.content_type = ""
        self._file = self._name(str(info.get("ext")))
        self._source = f"{unsigned(self._url)} {info.get('format_id')}"
        self._version = self._kept.begin(self._file, self._source)
        direct = info.get("protocol") in _DIRECT
        url = Request(info["url"]).url if info.get("url") else ""
        self._media, self._list = (url, "") if direct else ("", url)

    def plain(
        self, ydl: Any, suffix: str, judge: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any] | None:
        """Fetch a plain link to a file.

        Parameters
        ----------
        ydl : YoutubeDL
            What this is attached to.
        suffix : str
            Of the link, see :func:`dataminer.stages.download.plain.suffix_of`.
        judge : callable
            Given the description of the file, before its first byte; raises if it is not wanted.

        Returns
        -------
        dict or None
            The description; None if the link leads to something else, for which yt-dlp is asked,
            or did in an earlier attempt, with which yt-dlp goes on.
        """
        from yt_dlp.downloader.http import HttpFD
        from yt_dlp.networking import Request

        found: dict[str, Any] = {}

        def look(response: Any) -> None:
            found.update(plain.describe(response))
            judge(found)
            ydl.errand.gate.report_success()
            ydl.fetching = True

        source = f"{unsigned(self._url)} {suffix}"
        if self._kept.is_of_another(source):
            return None
        self._look, self._source = look, source
        self._file, self._given = self._name(suffix), Request(self._url).url
        self._media = self._given
        self._version = self._kept.begin(self._file, self._source)
        fetching = HttpFD(ydl, ydl.params)
        fetching._progress_hooks[:] = [self._progress]
        try:
            fetching.download(str(self._kept.folder / self._file), {"url": self._url})
        except plain.NotAFile as other:
            self.watch.transfer_ends()
            self._answer, self._file, self._media = other.response, "", ""
            self.content_type = _content_type(other.response)
            return None
        except plain.Unanswered as error:
            raise (error.__cause__ or error) from None
        finally:
            ydl.fetching = False
        self._rename(found["ext"])
        return found

    def finished(self) -> list[Path]:
        """Return the files that are whole, and judge their size."""
        self.watch.transfer_ends()
        found = [path for path in self._kept.folder.glob("[!.]*") if path.suffix not in _SCRATCH]
        for path in found:
            policy.judge_size(path.stat().st_size, self._settings.policy, self._shown)
        return found

    def _rename(self, ext: str) -> None:
        """Give the file the suffix that it has where the link led to."""
        name = self._name(ext)
        if name != self._file:
            os.replace(self._kept.folder / self._file, self._kept.folder / name)

    def _path(self, info: dict[str, Any], *_: Any, **__: Any) -> str:
        return str(self._kept.folder / self._name(str(info.get("ext"))))

    # ---- requests

    def _urlopen(self, request: Any) -> Any:
        """Open a link for yt-dlp; only of the file that is written to the disk all may come."""
        from dataminer.net import ytdlp_client as net

        self.watch.check()
        url = getattr(request, "url", None)
        if self._answer and url == self._given and request.method == "GET":
            answer, self._answer = self._answer, None
            return net.bounded(answer)
        if self._look:
            response = self._first(request)
        else:
            whole_file = self._media and url == self._media
            response = (self._fetch if whole_file else self._open)(request)
            if not whole_file:
                net.bounded(response, part=bool(self._file) and url != self._list)
        if self._file:  # a format is chosen, and what comes now is it
            self.watch.transfer_begins()
        return response

    def _open(self, request: Any) -> Any:
        with self.watch.paused():
            response = self._send(request)
        if self._look:
            self.watch.transfer_begins()
            try:
                self._look(response)
            except plain.NotAFile:
                raise
            except BaseException:
                response.close()
                raise
        return response

    def _drop_answer(self) -> None:
        """Forget an answer that yt-dlp did not ask for before it chose a format."""
        if self._answer:
            self._answer.close()
            self._answer = None

    def _rest(self, n: int) -> float:
        """Wait before the next try; return how much longer yt-dlp is to wait."""
        self.watch.rest(ytdlp_options.pause(n))
        return 0.0

    def _fetch(self, request: Any) -> Any:
        """Ask for the file, or for the rest of it while it is still the same file."""
        from yt_dlp.networking.exceptions import HTTPError

        begun = _first_byte(request) > 0
        condition = self._version.condition if self._version else None
        if begun and condition:
            request.headers["If-Range"] = condition
        try:
            response = self._open(request)
        except HTTPError as error:
            if not begun or error.status != _NO_SUCH_RANGE:
                raise
            error.response.close()
            response = self._whole(request)
        version = RemoteVersion.of(response.headers)
        if (
            begun
            and response.status == _PARTIAL
            and self._version
            and version.differs(self._version)
        ):
            response.close()  # a server that does not know If-Range
            response = self._whole(request)
            version = RemoteVersion.of(response.headers)
        if response.status != _PARTIAL or not begun:
            self._kept.restart(self._file, self._source, version)
            self._version = version
        self.content_type = _content_type(response)
        self._judge(response, version)
        return response

    def _first(self, request: Any) -> Any:
        """Ask for a plain link, and look whether the answer is a file."""
        from yt_dlp.networking.exceptions import HTTPError, TransportError

        try:
            return self._fetch(request)
        except (HTTPError, TransportError) as error:
            raise plain.Unanswered from error
        finally:
            self._look = None

    def _whole(self, request: Any) -> Any:
        """Ask anew, for all of it: yt-dlp sees no range in the answer and begins from nothing."""
        whole = request.copy()
        for name in ("Range", "If-Range"):
            whole.headers.pop(name, None)
        return self._open(whole)

    def _judge(self, response: Any, version: RemoteVersion) -> None:
        try:
            policy.judge_size(version.size, self._settings.policy, self._shown)
        except BaseException:
            response.close()
            raise

    # ---- bytes

    def _progress(self, status: dict[str, Any]) -> None:
        """Take yt-dlp's news, after each block; a line every few seconds is passed on."""
        done = status.get("status") == "finished"
        got = status.get("downloaded_bytes") or 0
        if done:
            self.watch.transfer_ends()
        else:
            self.watch.saw(got)
            policy.judge_size(got, self._settings.policy, self._shown, whole=False)
            if time.monotonic() < self._next_line:
                return
        self._next_line = time.monotonic() + _PROGRESS_SECONDS
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        of = f" of {total / 1e6:.1f}" if total and not done else ""
        self._say(f"{'downloaded' if done else 'downloading'} {got / 1e6:.1f}{of} MB")


def _first_byte(request: Any) -> int:
    from yt_dlp.utils import parse_http_range

    start: int | None = parse_http_range(request.headers.get("Range"))[0]
    return start or 0


def _content_type(response: Any) -> str:
    named = _CONTENT_TYPE.match(response.headers.get("Content-Type") or "")
    return named[1].lower() if named else ""
