"""The live view as a web page on this machine alone, which changes nothing."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

import psycopg2

from dataminer.errors import DataminerError, ErrorClass, kind_of
from dataminer.files import read_file
from dataminer.monitor.status import by_class
from dataminer.monitor.story import find, story
from dataminer.monitor.terminal.live import Monitor, View, next_view
from dataminer.monitor.videos import STATES, VideoQuery, videos
from dataminer.monitor.web import page as web_page
from dataminer.permissions import user_name
from dataminer.report import REPORT_FILE
from dataminer.report.html.style import policy
from dataminer.store.layout import Store
from dataminer.text import shown

ADDRESS = "127.0.0.1"
_HOSTS = frozenset({"127.0.0.1", "localhost"})  # through a tunnel the port may be another
_SHOWN = 50  # rows of claims and failures; the list of videos has all
_LONGEST_TEXT = 200
_LONGEST_SHOWN = 2000
_UNFRAMED = "frame-ancestors 'none'"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    f" base-uri 'none'; form-action 'none'; {_UNFRAMED}"
)
_HTML, _JSON = "text/html; charset=utf-8", "application/json"
_Answer = tuple[str, bytes, str]


class Site:
    """What the page asks for.

    Parameters
    ----------
    watch : Monitor
        Looks at the database; read-only.
    names : list of str
        The projects that are shown; all where it is empty.
    store : Store
        Where files and reports are.
    interval : float
        Seconds between two looks, however many pages are open.

    Raises
    ------
    DataminerError
        When the first look fails.
    """

    def __init__(self, watch: Monitor, names: list[str], store: Store, interval: float) -> None:
        self._watch, self._names, self._store = watch, names, store
        self._interval = interval
        self._lock = threading.Lock()
        self._view = watch.read()
        self._next = time.monotonic() + interval
        self.token = secrets.token_urlsafe(24)

    def answer(self, path: str, query: dict[str, str]) -> _Answer | None:
        """Return media type, bytes and Content-Security-Policy of a path; None for no such page."""
        fixed: dict[str, tuple[str, str]] = {
            "": (_HTML, web_page.PAGE),
            "page.css": ("text/css; charset=utf-8", web_page.CSS),
            "page.js": ("text/javascript; charset=utf-8", web_page.JS),
        }
        if path in fixed:
            kind, text = fixed[path]
            return kind, text.encode(), _POLICY
        asked: dict[str, Callable[[], Any]] = {
            "now.json": self.now,
            "videos.json": lambda: videos(_wanted(query), self._names),
            "why.json": lambda: self.why(query.get("video", "").replace("\0", "")),
        }
        if path in asked:
            return _JSON, json.dumps(_shown(asked[path]())).encode(), _POLICY
        return self._report(path)

    def now(self) -> dict[str, Any]:
        """Return where everything stands, as of the latest look."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._view = next_view(self._watch, self._view)
                self._next = time.monotonic() + self._interval
            view = self._view
        names = [project["name"] for project in view.seen.projects]
        there = [name for name in names if (self._store.report(name) / REPORT_FILE).is_file()]
        return {**told(view), "interval": self._interval, "reports": there}

    def why(self, video_id: str) -> dict[str, Any]:
        """Return one video's story, as ``dataminer why`` tells it."""
        return story(find(video_id), self._store).as_json()

    def _report(self, path: str) -> _Answer | None:
        """Return a project's report, of the projects that are shown and of no other path."""
        kind, _, name = path.partition("/")
        known = {project["name"] for project in self._view.seen.projects}
        if kind != "report" or name not in known:
            return None
        try:
            data = read_file(self._store.report(name) / REPORT_FILE)
        except (FileNotFoundError, DataminerError):
            return None
        return _HTML, data, f"{policy()}; {_UNFRAMED}"


def told(view: View) -> dict[str, Any]:
    """Return a view as the page shows it: of long lists the first rows, and how many there are."""
    data = view.as_json()
    long = ("claims", "failures", "to_retry", "warnings")
    return {
        **data,
        **{name: data[name][:_SHOWN] for name in long},
        "counts": {name: len(data[name]) for name in long},
        "classes": [
            {"name": name, "count": count, "kind": _kind(name), "next_step": step}
            for name, count, step in by_class(data["failures"], data["to_retry"])
        ],
        "stale_seconds": view.settings.stale_threshold_minutes * 60,
        "at": view.at.isoformat(),
        "trouble": view.trouble,
    }


def _shown(value: Any) -> Any:
    """Return a value whose texts a browser shows as they are: inert, and not endless."""
    if isinstance(value, dict):
        return {_shown(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return shown(value, _LONGEST_SHOWN) if isinstance(value, str) else value


def _kind(name: str) -> str:
    return str(kind_of(ErrorClass(name))) if name in list(ErrorClass) else ""


def _wanted(query: dict[str, str]) -> VideoQuery:
    state, page = query.get("state", "all"), query.get("page", "0")
    return VideoQuery(
        project=query.get("project", "")[:_LONGEST_TEXT],
        state=state if state in STATES else "all",
        text=query.get("text", "")[:_LONGEST_TEXT].replace("\0", ""),
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 0,
    )


class _Handler(BaseHTTPRequestHandler):
    """Answers GET of those who know the token and came by this machine's own name."""

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
            reason = _shown({"error": " ".join(str(error).split()) or type(error).__name__})
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, _JSON, json.dumps(reason).encode())
            return
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"404: there is no such page\n")
            return
        self._send(HTTPStatus.OK, *found)

    def _allowed(self, token: str) -> bool:
        """Compare in constant time; a page of another site could only come by another name."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        known = hmac.compare_digest(token.encode(), self.server.site.token.encode())
        return known and host in _HOSTS

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
        """Say nothing: paths hold the token."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        super().__init__((ADDRESS, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over browsers that went away; anything else is a bug and is shown."""
        import sys

        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def serve(site: Site, port: int = 0) -> _Server:
    """Return a server on this machine's own address; its caller runs and closes it.

    Parameters
    ----------
    site : Site
        What it shows.
    port : int
        0 takes one that is free.

    Raises
    ------
    DataminerError
        When the port is taken, or is not to be had.
    """
    try:
        return _Server(site, port)
    except OSError as error:
        raise DataminerError(
            f"port {port} cannot be used: {error.strerror}", "leave --port out, or name another"
        ) from error


def url_of(server: _Server) -> str:
    """Return the address of the page, token and all."""
    return f"http://{ADDRESS}:{server.server_address[1]}/{server.site.token}/"


def run(site: Site, port: int, file: IO[str]) -> None:
    """Serve the page until Ctrl-C."""
    with serve(site, port) as server:
        bound = server.server_address[1]
        there = f"{user_name(os.geteuid())}@{socket.gethostname()}"
        print(f"dataminer monitor: {url_of(server)}", file=file)
        print(f"from another machine, first: ssh -L {bound}:{ADDRESS}:{bound} {there}", file=file)
        print("It only looks. Who has the address can read. Ctrl-C ends it.", file=file, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\ndataminer monitor: ended", file=file)
