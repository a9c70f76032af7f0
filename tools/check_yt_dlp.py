"""Whether the yt-dlp that is installed works with our code: ``python -m tools.check_yt_dlp``.

It needs no network: names and signatures are compared, and a server on this machine is asked for
videos in the ways in which sites give them.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import dataminer
from dataminer.config.models import DownloadConfig
from dataminer.net.rate_limit import RateLimiter
from dataminer.stages.download.stage import download
from tests.support.http_server import Behaviour, Reply, serve
from tests.support.videos import make_video

# What our classes replace in those of yt-dlp. If yt-dlp no longer called one of these, requests
# could pass by the rate limit, the check of addresses or the bounds on sizes. A test compares both.
REPLACED = {
    "YoutubeDL": "build_request_director dl extract_info process_video_result report_error urlopen",
    "LimitedRH": "_SUPPORTED_URL_SCHEMES _create_instance _send",
    "_Redirects": "http_error_301 http_error_302 http_error_303 http_error_307 http_error_308"
    " redirect_request",
    "_Connections": "_make_conn_class brotli deflate do_open gz http_request http_response"
    " https_request https_response",
}
_PACKAGE = Path(dataminer.__file__).parent
_SETTINGS = DownloadConfig(retries=0, socket_timeout=10)
_PAGE = (
    b'<!doctype html><html><head><title>A page</title></head><video src="/part.ts"></video></html>'
)
_PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart.ts\n#EXT-X-ENDLIST\n"
_MANIFEST = (
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
    b'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1" codecs="avc1">'
    b'<SegmentTemplate media="part.ts"><SegmentTimeline><S t="0" d="1"/></SegmentTimeline>'
    b"</SegmentTemplate></Representation></AdaptationSet></Period></MPD>"
)


class Incompatible(Exception):
    """Something of yt-dlp is not as our code takes it to be."""


def main(arguments: Sequence[str]) -> int:
    """Check everything, and print the first thing that does not fit.

    Parameters
    ----------
    arguments : sequence of str
        Of the command line; there are none but ``--help``.

    Returns
    -------
    int
        The exit status.
    """
    argparse.ArgumentParser("python -m tools.check_yt_dlp", description=__doc__).parse_args(
        arguments
    )
    try:
        check_names()
        check_replaced()
        check_downloads()
    except Exception as error:  # a yt-dlp that does not fit may raise anything
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def check_names() -> None:
    """Look for each name that our code imports from yt-dlp.

    Raises
    ------
    Incompatible
        If there is one no more.
    """
    for path in sorted(_PACKAGE.rglob("*.py")):
        for module, name in _imports(path):
            found = importlib.import_module(module)
            if not hasattr(found, name) and not find_spec(f"{module}.{name}"):
                raise Incompatible(f"{module} has no {name} any more")


def check_replaced() -> None:
    """Look for what our classes replace, and whether they take what it takes.

    Raises
    ------
    Incompatible
        If it is gone, or takes something else.
    """
    for ours in our_classes():
        base = ours.__mro__[1].__name__
        for name in REPLACED.get(ours.__name__, "").split():
            theirs = getattr(super(ours, ours), name, None)
            if theirs is None:
                raise Incompatible(f"yt-dlp's {base} has no {name} any more")
            if inspect.isfunction(theirs):
                _check_call(f"{base}.{name}", theirs, getattr(ours, name))


def our_classes() -> Iterator[type]:
    """Yield the classes with which our package changes classes of yt-dlp."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        if not _imports(path):
            continue
        name = ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts)
        for found in vars(importlib.import_module(name)).values():
            if isinstance(found, type) and found.__module__ == name and _of_yt_dlp(found.__base__):
                yield found


def check_downloads() -> None:
    """Download a video through a plain link, a redirect, a page, and lists of its parts.

    Raises
    ------
    Incompatible
        If other bytes come, or a request is made without asking the rate limit.
    StageError
        If none come.
    """
    with tempfile.TemporaryDirectory() as folder, serve() as server:
        part = make_video(Path(folder, "part.ts"), container_format="mpegts")
        server.add("/part.ts", [Reply(429), part])
        ways: dict[str, Behaviour] = {
            "/part.ts": part,
            "/redirect": Reply(302, headers={"Location": "/part.ts"}),
            "/page": Reply(body=_PAGE),
            "/hls": Reply(body=_PLAYLIST, content_type="application/vnd.apple.mpegurl"),
            "/dash": Reply(body=_MANIFEST, content_type="application/dash+xml"),
        }
        for path, behaviour in ways.items():
            link = server.add(path, [Reply(429), behaviour])
            out, limit = Path(tempfile.mkdtemp(dir=folder)), _NoLimit()
            begin = len(server.log)
            video = download(link, out, "video", _SETTINGS, limiter=limit).video
            if video.read_bytes() != part.read_bytes():
                raise Incompatible(f"what a download of {path} gives is not the video")
            if (
                limit.requested != [requested for _, requested, _ in server.log[begin:]]
                or not limit.refusals
            ):
                raise Incompatible(f"a download of {path} passes by the rate limit")


class _NoLimit(RateLimiter):
    """Lets each request through at once, and notes it."""

    waited = 0.0

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.refusals = 0

    def download(self, url: str) -> None:
        return None

    def report_success(self) -> None:
        return None

    def request(self, url: str) -> float:
        self.requested.append(urlsplit(url).path)
        return time.monotonic() + 60

    def refused(self, *why: object) -> bool:
        self.refusals += 1
        return True


def _imports(path: Path) -> list[tuple[str, str]]:
    """Return what a file of ours imports from yt-dlp: modules, and names in them."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        (node.module or "", alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yt_dlp")
        for alias in node.names
    ]


def _of_yt_dlp(found: type | None) -> bool:
    return found is not None and found.__module__.partition(".")[0] == "yt_dlp"


def _check_call(name: str, theirs: Callable[..., object], ours: Callable[..., object]) -> None:
    """Call ours, on paper, as theirs can be called: with each argument in its place and by name."""
    arguments, options = [], {}
    for parameter in inspect.signature(theirs).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            arguments.append(parameter.name)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            options[parameter.name] = parameter.name
    try:
        inspect.signature(ours).bind(*arguments, **options)
    except TypeError as error:
        raise Incompatible(f"{name} is called in another way: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
