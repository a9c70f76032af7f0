"""Short connections to PostgreSQL, and retries over an outage."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from dataminer.db import embedded
from dataminer.environment import may_start_database
from dataminer.errors import DatabaseAway, DatabaseError

T = TypeVar("T")

# Between two transactions a connection stays open for so long at most: then the server ends it, so
# that hundreds of jobs at work hold none. Before PostgreSQL 14 it cannot, and none is kept.
_SPARE_SECONDS = 5
_IDLE_TIMEOUT_SINCE = 140000

# no connection (08), rolled back for another's sake (40), no resources (53), operator's doing (57),
# lock not available (55P03): https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = re.compile(r"^(08|40|53|57|55P03)")
# a refused connection has no SQLSTATE in psycopg2, only words; who must give another
# password or name hears so at once
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|(role|database) ".*" does not exist'
)
_OPTIONS = " ".join(
    [
        "-c timezone=UTC",
        "-c statement_timeout=60000",
        "-c lock_timeout=30000",
        "-c idle_in_transaction_session_timeout=60000",
    ]
)


def database_url(*, create: bool = False) -> str:
    """Return the URL of the database in use; where none is named, start the embedded server.

    A job starts none: it waits for the one that its run or the user starts, and reaches it over the
    network from another machine.

    Parameters
    ----------
    create : bool
        Whether the embedded database may be made when there is none yet: never by what only reads,
        and not by a job on a node that cannot see the right one.

    Raises
    ------
    DatabaseError
        When ``DATABASE_URL`` is not a PostgreSQL URL, or the embedded server cannot start, or
        cannot be reached by a job.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        # meant for another server, and libpq would prefer it to the embedded one's password file
        os.environ.pop("PGPASSWORD", None)
        return embedded.start(create=create) if may_start_database() else embedded.reach()
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise DatabaseError(
            f"DATABASE_URL names {scheme!r}, and dataminer works with PostgreSQL only",
            "set it to postgresql://USER@HOST/NAME, or unset it for the embedded server",
        )
    return f"postgresql://{rest}"


def redacted(url: str) -> str:
    """Return a database URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def connect(*, create: bool = False, name: str = "dataminer") -> Connection:
    """Open a connection; it sees and writes UTC, and gives up on hanging statements.

    Parameters
    ----------
    create : bool
        See :func:`database_url`.
    name : str
        What `pg_stat_activity` shows as ``application_name``.

    Raises
    ------
    DatabaseError
        When the server cannot be reached or refuses.
    """
    url = database_url(create=create)
    try:
        return psycopg2.connect(
            url,
            application_name=name[:63],
            connect_timeout=10,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            options=_OPTIONS,
        )
    except psycopg2.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "check DATABASE_URL and that the server runs"
        if not os.environ.get("DATABASE_URL"):
            hint = "see `dataminer db status`"
        raise DatabaseError(
            f"the database at {redacted(url)} cannot be reached: {reason}", hint
        ) from error


def transaction(
    work: Callable[[Connection], T],
    *,
    patience: float = 0.0,
    name: str = "dataminer",
    keep: bool = True,
    single: bool = False,
) -> T:
    """Run ``work`` in one transaction, which has its connection to itself.

    Parameters
    ----------
    work : callable
        Given the connection; what it returns is returned once the COMMIT has been answered. It is
        run again after a passing fault, so it must be safe to repeat.
    patience : float
        Seconds to go on trying while the server is away or refuses for the moment.
    name : str
        See :func:`connect`.
    keep : bool
        Whether the connection may stay open for this process's next transaction, should it come
        within seconds; False where a pause is known to follow.
    single : bool
        ``work`` is one statement, a transaction by itself: that spares BEGIN and COMMIT.
    """

    def once() -> T:
        with _borrowed(name, keep=keep) as connection:
            if not single:
                with connection:
                    return work(connection)
            connection.autocommit = True
            result = work(connection)
            connection.autocommit = False
            return result

    if not patience:
        return once()
    retrying = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.2, max=15),
        reraise=True,
    )
    return retrying(once)


@dataclass(frozen=True)
class _Spare:
    """An open connection that no thread uses: of which process, to where, since when."""

    connection: Connection
    pid: int
    place: tuple[str, ...]
    since: float


_spares: list[_Spare] = []  # one at most, unless threads end at the same moment


@contextmanager
def _borrowed(name: str, *, keep: bool) -> Iterator[Connection]:
    """Give a connection for one transaction: the spare one, where there is one that lives."""
    connection = _take(name) or _open(name)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    if keep and not _spares and connection.server_version >= _IDLE_TIMEOUT_SINCE:
        _spares.append(_Spare(connection, os.getpid(), _place(), time.monotonic()))
    else:
        connection.close()


def _open(name: str) -> Connection:
    connection = connect(name=name)
    if connection.server_version >= _IDLE_TIMEOUT_SINCE:
        _command(connection, "SET idle_session_timeout = %s", f"{_SPARE_SECONDS}s")
    return connection


def _take(name: str) -> Connection | None:
    while _spares:
        try:
            spare = _spares.pop()
        except IndexError:  # another thread was faster
            return None
        if spare.pid != os.getpid():
            continue  # the parent's, whose session a goodbye from here would end
        young = time.monotonic() - spare.since < _SPARE_SECONDS - 1
        if young and spare.place == _place() and _revived(spare.connection, name):
            return spare.connection
        spare.connection.close()
    return None


def _revived(connection: Connection, name: str) -> bool:
    """Tell whether a connection still lives, and give it its new user's name."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):  # a server that says something unasked says that it ends the session
            return False
        if connection.get_parameter_status("application_name") != name[:63]:
            _command(connection, "SET application_name = %s", name[:63])
    except psycopg2.Error:
        return False
    return True


def _command(connection: Connection, command: str, value: str) -> None:
    """Run a command outside any transaction."""
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(command, (value,))
    connection.autocommit = False


def _place() -> tuple[str, ...]:
    """Return what tells one database from another."""
    return (os.environ.get("DATABASE_URL") or "", str(embedded.default_home()))


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, DatabaseAway):
        return True
    if isinstance(error, DatabaseError):
        error = error.__cause__ or error
    if isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        # a lost connection has no SQLSTATE
        if error.pgcode is None:
            return not _REFUSED.search(str(error))
        return bool(_TRANSIENT.match(error.pgcode))
    code = getattr(error, "pgcode", None)
    return bool(code and _TRANSIENT.match(code))
