"""A live page at work, for tests."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dataminer.config import MonitorConfig
from dataminer.monitor.terminal.live import Monitor
from dataminer.monitor.web import server as web
from dataminer.store.layout import Store


@dataclass
class Served:
    """A live page at work, and its files."""

    url: str
    store: Store

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def root(self) -> str:
        return urlsplit(self.url).path

    def ask(
        self, path: str, host: str | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request as it is, and return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            if host != "":
                connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> dict[str, Any]:
        status, _, body = self.ask(self.root + path)
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer


@contextmanager
def serving(store: Store) -> Iterator[Served]:
    """Serve the project's live page."""
    live_monitor = Monitor(["birds"], MonitorConfig(), read_only=True)
    server = web.serve(web.Site(live_monitor, ["birds"], store, interval=0.2))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Served(web.url_of(server), store)
    server.shutdown()
    thread.join()
    server.server_close()
