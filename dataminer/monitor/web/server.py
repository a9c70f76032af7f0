"""The live view as a web page that only this machine can open and that changes nothing."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

import psycopg2

from dataminer.errors import DataminerError, ErrorClass, kind_of
from dataminer.files.reading import read_file
from dataminer.monitor.status import by_class
from dataminer.monitor.story import find_video, story
from dataminer.monitor.terminal.live import Monitor, View, next_view
from dataminer.monitor.videos import STATES, VideoQuery, videos
from dataminer.permissions import user_name
from dataminer.report import REPORT_FILE
from dataminer.report.html.style import CSS as REPORT_CSS
from dataminer.report.html.style import policy, read_asset
from dataminer.store.layout import Store
from dataminer.text import shown

ADDRESS = "127.0.0.1"
_HOSTS = frozenset({"127.0.0.1", "localhost"})  # a tunnel may have another port
_MOST_ROWS = 50  # of claims and failures; the list of videos has all
_LONGEST_QUERY = 200
_LONGEST_TEXT = 2000
_UNFRAMED = "frame-ancestors 'none'"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    f" base-uri 'none'; form-action 'none'; {_UNFRAMED}"
)
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_Answer = tuple[str, bytes, str]  # media type, content, Content-Security-Policy

_FOLDER = Path(__file__).parent
_FILES = {
    "": (_HTML, (_FOLDER / "page.html").read_text("utf-8")),
    "page.css": ("text/css; charset=utf-8", REPORT_CSS + read_asset(_FOLDER / "page.css")),
    "page.js": ("text/javascript; charset=utf-8", read_asset(_FOLDER / "page.js")),
}


class Site:
    """The answers to what the page requests.

    Parameters
    ----------
    monitor : Monitor
        Reads the database, and never writes.
    names : list of str
        The projects to show; all if it is empty.
    store : Store
        Where files and reports are.
    interval : float
        Seconds between two reads of the database, however many pages are open.

    Raises
    ------
    DataminerError
        If the database cannot be read.
    """

    def __init__(self, monitor: Monitor, names: list[str], store: Store, interval: float) -> None:
        self._monitor, self._names, self._store = monitor, names, store
        self._interval = interval
        self._lock = threading.Lock()
        self._view = monitor.read()
        self._next = time.monotonic() + interval
        self.token = secrets.token_urlsafe(24)

    def answer(self, path: str, query: dict[str, str]) -> _Answer | None:
        """Return media type, content and policy of a path; None if there is no such page."""
        if path in _FILES:
            kind, text = _FILES[path]
            return kind, text.encode(), _POLICY
        queries: dict[str, Callable[[], Any]] = {
            "now.json": self.now,
            "videos.json": lambda: videos(_wanted(query), self._names),
            "why.json": lambda: self.why(query.get("video", "").replace("\0", "")),
        }
        if path in queries:
            return _JSON, json.dumps(_inert(queries[path]())).encode(), _POLICY
        return self._report(path)

    def now(self) -> dict[str, Any]:
        """Return the state of everything, as of the latest read of the database."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._view = next_view(self._monitor, self._view)
                self._next = time.monotonic() + self._interval
            view = self._view
        names = [project["name"] for project in view.seen.projects]
        reports = [name for name in names if (self._store.report(name) / REPORT_FILE).is_file()]
        return {**page_data(view), "interval": self._interval, "reports": reports}

    def why(self, video_id: str) -> dict[str, Any]:
        """Return one video's story, like ``dataminer why``."""
        return story(find_video(video_id), self._store).as_json()

    def _report(self, path: str) -> _Answer | None:
        """Return the report of a project on the page; None for any other path."""
        kind, _, name = path.partition("/")
        names = {project["name"] for project in self._view.seen.projects}
        if kind != "report" or name not in names:
            return None
        try:
            data = read_file(self._store.report(name) / REPORT_FILE)
        except (FileNotFoundError, DataminerError):
            return None
        return _HTML, data, f"{policy()}; {_UNFRAMED}"


def page_data(view: View) -> dict[str, Any]:
    """Return a view for the page, with the first rows of long lists and the counts of all rows."""
    data = view.as_json()
    long = ("claims", "failures", "to_retry", "warnings", "notes")
    return {
        **data,
        **{name: data[name][:_MOST_ROWS] for name in long},
        "counts": {name: len(data[name]) for name in long},
        "classes": [
            {"name": name, "count": count, "kind": _kind(name), "next_step": step}
            for name, count, step in by_class(data["failures"], data["to_retry"])
        ],
        "stale_seconds": view.settings.stale_threshold_minutes * 60,
        "at": view.at.isoformat(),
        "trouble": view.trouble,
    }


def _inert(value: Any) -> Any:
    """Return a value whose texts are inert and bounded, for a browser."""
    if isinstance(value, dict):
        return {_inert(key): _inert(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_inert(item) for item in value]
    return shown(value, _LONGEST_TEXT) if isinstance(value, str) else value


def _kind(name: str) -> str:
    return str(kind_of(ErrorClass(name))) if name in list(ErrorClass) else ""


def _wanted(query: dict[str, str]) -> VideoQuery:
    state, page = query.get("state", "all"), query.get("page", "0")
    return VideoQuery(
        project=query.get("project", "")[:_LONGEST_QUERY],
        state=state if state in STATES else "all",
        text=query.get("text", "")[:_LONGEST_QUERY].replace("\0", ""),
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 0,
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers a GET that has the token and names this machine itself as its host."""

    server: _Server
    timeout = 30  # seconds for a request to come in

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, token, *rest = [*url.path.split("/", 2), ""]
        if not self._allowed(token):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"403: not allowed\n")
            return
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        try:
            found = self.server.site.answer(rest[0], query)
        except (DataminerError, psycopg2.Error) as error:
            reason = _inert({"error": " ".join(str(error).split()) or type(error).__name__})
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, _JSON, json.dumps(reason).encode())
            return
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"404: there is no such page\n")
            return
        self._send(HTTPStatus.OK, *found)

    def _allowed(self, token: str) -> bool:
        """Compare in constant time; a page of another site would need another host name."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        valid = hmac.compare_digest(token.encode(), self.server.site.token.encode())
        return valid and host in _HOSTS

    def _send(self, status: HTTPStatus, kind: str, data: bytes, csp: str = _POLICY) -> None:
        self.send_response_only(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Content-Security-Policy", csp),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: paths contain the token."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        super().__init__((ADDRESS, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that disconnected; any other error is a bug and is printed."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def serve(site: Site, port: int = 0) -> _Server:
    """Return a server on the local address; the caller runs and closes it.

    Parameters
    ----------
    site : Site
        Answers its requests.
    port : int
        0 for any free port.

    Raises
    ------
    DataminerError
        If the port is taken or not permitted.
    """
    try:
        return _Server(site, port)
    except OSError as error:
        raise DataminerError(
            f"port {port} cannot be used: {error.strerror}", "leave --port out, or name another"
        ) from error


def url_of(server: _Server) -> str:
    """Return the URL of the page, which includes the token."""
    return f"http://{ADDRESS}:{server.server_address[1]}/{server.site.token}/"


def run_server(site: Site, port: int, file: IO[str]) -> None:
    """Serve the page until Ctrl-C."""
    with serve(site, port) as server:
        bound = server.server_address[1]
        login = f"{user_name(os.geteuid())}@{socket.gethostname()}"
        print(f"dataminer monitor: {url_of(server)}", file=file)
        print(f"from another machine, first: ssh -L {bound}:{ADDRESS}:{bound} {login}", file=file)
        print(
            "The page is read-only. Anyone with its address can read it. Press Ctrl-C to stop.",
            file=file,
            flush=True,
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\ndataminer monitor: ended", file=file)
