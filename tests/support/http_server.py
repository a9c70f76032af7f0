"""A loopback HTTP server that serves videos and misbehaves on request.

with serve() as server:
    link = server.add("/clip.mp4", path)                   # a real file, with ranges
    gone = server.add("/gone.mp4", Reply(status=410))
    shaky = server.add("/shaky.mp4", [Reply(status=503), path])   # one answer a request
    download(link, …)
    assert server.requests["/clip.mp4"] == 1
"""

from __future__ import annotations

import mimetypes
import os
import re
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """One answer; each field is a way to behave, or not to."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/html"
    headers: dict[str, str] = field(default_factory=dict)
    declared_length: int | None = None
    """A Content-Length that is not the body's: larger makes it a truncated body; negative: none."""
    delay: float = 0.0
    """Seconds to wait before the answer."""
    reset: bool = False
    """Cut the connection hard instead of answering."""
    stop_after: int | None = None
    """Send so many bytes of the body and no more, but keep the connection."""
    trickle: float = 0.0
    """Seconds between two bytes of the body."""


@dataclass(frozen=True)
class File:
    """A real file, with ranges, and what tells its state from another."""

    path: Path
    etag: str | None = None
    last_modified: str | None = None
    knows_if_range: bool = True
    stop_after: int | None = None
    trickle: float = 0.0

    def reply(self, headers: dict[str, str]) -> Reply:
        """Answer with the file, or with the part that was asked for."""
        validators = {"ETag": self.etag, "Last-Modified": self.last_modified}
        condition = headers.get("If-Range")
        fits = not self.knows_if_range or condition in {None, *validators.values()}
        reply = _file_reply(self.path, headers.get("Range") if fits else None)
        more = {name: value for name, value in validators.items() if value}
        return replace(
            reply,
            headers={**reply.headers, **more},
            stop_after=self.stop_after,
            trickle=self.trickle,
        )


# a handler gets the request's path with its query
Behaviour = Reply | Path | File | Callable[[str], Reply]


class Server:
    """What the server answers, and what it was asked; safe to change while it runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: Counter[str] = Counter()
        """Requests by path, without the query."""
        self.log: list[tuple[float, str, int]] = []
        """Each request's arrival (seconds, monotonic), its path and the status of its answer."""
        self.headers: dict[str, dict[str, str]] = {}
        """The headers of the last request of each path."""
        self.ranges: dict[str, list[str | None]] = defaultdict(list)
        """The Range of each request of each path."""
        self.stopping = threading.Event()
        self._behaviours: dict[str, list[Behaviour]] = {}
        self._lock = threading.Lock()

    def add(self, path: str, behaviour: Behaviour | list[Behaviour]) -> str:
        """Set what a path answers: always the same, or a list's members in turn (then its last).

        Returns
        -------
        str
            The whole link.
        """
        with self._lock:
            listed = behaviour if isinstance(behaviour, list) else [behaviour]
            self._behaviours[path] = list(listed)
        return f"{self.url}{path}"

    def _answer(self, target: str, headers: dict[str, str]) -> Reply:
        arrived, path = time.monotonic(), urlsplit(target).path
        reply = self._reply(target, path, headers)
        with self._lock:
            self.log.append((arrived, path, reply.status))
        return reply

    def _reply(self, target: str, path: str, headers: dict[str, str]) -> Reply:
        with self._lock:
            self.requests[path] += 1
            self.headers[path] = headers
            self.ranges[path].append(headers.get("Range"))
            behaviours = self._behaviours.get(path, [Reply(status=404)])
            behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        if isinstance(behaviour, Path):
            return _file_reply(behaviour, headers.get("Range"))
        if isinstance(behaviour, File):
            return behaviour.reply(headers)
        return behaviour if isinstance(behaviour, Reply) else behaviour(target)


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server on a free port of 127.0.0.1 in threads of this process."""
    handler: Any = type("Handler", (_Handler,), {})  # its own, so that two servers can run
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    server = handler.server_state = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # also where a proxy is set
    try:
        with mock.patch.dict(os.environ, direct):
            yield server
    finally:
        server.stopping.set()
        http.shutdown()
        http.server_close()
        thread.join()


def refused_url() -> str:
    """Return a link to a port of this machine at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return f"http://127.0.0.1:{port}/clip.mp4"


class _Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        reply = self.server_state._answer(self.path, dict(self.headers))
        if reply.delay:
            self.server_state.stopping.wait(reply.delay)
        with suppress(ConnectionError):  # yt-dlp looks at the first bytes and hangs up
            self._send(reply)

    do_HEAD = do_GET

    def _send(self, reply: Reply) -> None:
        if reply.reset:
            linger = b"\x01\0\0\0\0\0\0\0"  # on, 0 s: close() sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        length = len(reply.body) if reply.declared_length is None else reply.declared_length
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if length >= 0:
            self.send_header("Content-Length", str(length))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(reply)

    def _send_body(self, reply: Reply) -> None:
        if not reply.trickle:
            self.wfile.write(reply.body[: reply.stop_after])
        else:
            for byte in reply.body[: reply.stop_after]:
                self.wfile.write(bytes([byte]))
                if self.server_state.stopping.wait(reply.trickle):
                    return
        if reply.stop_after is not None:
            self.wfile.flush()
            self.server_state.stopping.wait()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _file_reply(path: Path, wanted: str | None) -> Reply:
    body = path.read_bytes()
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if match is None:
        return Reply(200, body, content_type, {"Accept-Ranges": "bytes"})
    first, last = int(match[1]), int(match[2] or len(body) - 1)
    if first >= len(body):
        return Reply(416, headers={"Content-Range": f"bytes */{len(body)}"})
    part = body[first : last + 1]
    content_range = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
    return Reply(206, part, content_type, {"Content-Range": content_range})


def most_in_a_window(times: list[float], seconds: float) -> int:
    """Return the most moments that a window of this many seconds holds."""
    return max(sum(begin <= t < begin + seconds for t in times) for begin in times)
