"""Have an embedded server that died run again, for as long as a run needs it."""

from __future__ import annotations

import logging
import os
import threading

from dataminer.db.server import control
from dataminer.errors import DatabaseError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class ServerSupervisor(threading.Thread):
    """Starts the server of this machine again when it crashed, on a thread of its own.

    Jobs only wait for it. A server that was stopped by ``dataminer db stop`` stays stopped, and one
    that ``DATABASE_URL`` names is its administrator's.
    """

    def __init__(self) -> None:
        super().__init__(name="database guard", daemon=True)
        self._home = control.default_home()
        self._ended = threading.Event()

    def begin(self) -> None:
        """Look after the server from now on."""
        if self.ident is None and not os.environ.get("DATABASE_URL"):
            self.start()

    def stop(self) -> None:
        """Look after it no more."""
        self._ended.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Look, and start; called by :meth:`begin`."""
        message, before = "", False
        while not self._ended.wait(LOOK_SECONDS):
            try:
                # seen once, it may be one that is being started at this moment
                before, was = control.crashed(self._home), before
                if before and was:
                    log.warning("dataminer: the database had died and is started again")
                    control.start(self._home, create=False)
                    message = ""
            except DatabaseError as error:
                if str(error) != message:
                    message = str(error)
                    log.warning("dataminer: the database cannot be started again: %s", message)
