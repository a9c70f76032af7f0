"""Restart a crashed embedded server for as long as a run needs it."""

from __future__ import annotations

import logging
import os
import threading

from dataminer.db.server import control
from dataminer.errors import DatabaseError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class ServerSupervisor(threading.Thread):
    """Restarts this machine's server after a crash, in a separate thread.

    Jobs only wait for the server. One that was stopped by ``dataminer db stop`` stays stopped, and
    one that ``DATABASE_URL`` names is its administrator's responsibility.
    """

    def __init__(self) -> None:
        super().__init__(name="database guard", daemon=True)
        self._home = control.default_home()
        self._ended = threading.Event()

    def begin(self) -> None:
        """Start supervising the server."""
        if self.ident is None and not os.environ.get("DATABASE_URL"):
            self.start()

    def stop(self) -> None:
        """Stop supervising the server."""
        self._ended.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Check the server, and restart it if needed; called by :meth:`begin`."""
        message, before = "", False
        while not self._ended.wait(LOOK_SECONDS):
            try:
                # After a single check, it might be a server that is just being started
                before, was = control.crashed(self._home), before
                if before and was:
                    log.warning("dataminer: the database has crashed and is being restarted")
                    control.start(self._home, create=False)
                    message = ""
            except DatabaseError as error:
                if str(error) != message:
                    message = str(error)
                    log.warning("dataminer: the database cannot be restarted: %s", message)
