"""Short connections to PostgreSQL, and retries over an outage."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from dataminer.db import tables
from dataminer.db.refusals import explain_refusal, refused_at_the_door, way_in
from dataminer.db.server import control
from dataminer.db.url import DatabaseUrl
from dataminer.errors import DatabaseAway, DatabaseError
from dataminer.process import may_start_database

T = TypeVar("T")

# Milliseconds that an idle connection stays open before the server ends it, so that hundreds of
# working jobs occupy no connections. Before PostgreSQL 14 the server cannot do that, and none is
# kept.
_SPARE_SECONDS = 5
_MOST_SPARES = 4  # per process, for threads that need one at the same time
_IDLE_TIMEOUT_SINCE = 140000

# Connection failure (08), rollback in favour of another transaction (40), insufficient resources
# (53), operator intervention (57), lock not available (55P03):
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = re.compile(r"^(08|40|53|57|55P03)")
_LIMITS = {
    "statement_timeout": "60000",
    "lock_timeout": "30000",
    "idle_in_transaction_session_timeout": "60000",
}
# Spelled as no server spells its defaults: a value that differs was not set by us
_UTC = "UTC0"
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in [("timezone", _UTC), *_LIMITS.items()])
_SET_LIMITS = "; ".join(f"SET LOCAL {name} = {value}" for name, value in _LIMITS.items())
_REFUSED_OPTIONS = "unsupported startup parameter"


def database_url(*, create: bool = False) -> DatabaseUrl:
    """Return the URL of the database in use; start the embedded server if none is named.

    A job never starts it. It waits for the server that its run or the user starts, and connects
    over the network if that runs on another machine.

    Parameters
    ----------
    create : bool
        Whether to make the embedded database if it does not exist. Commands that only read never
        do, nor do jobs on nodes that may not see the right one.

    Raises
    ------
    DatabaseError
        If ``DATABASE_URL`` cannot be read, or the embedded server cannot start, or cannot be
        reached by a job.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        # Meant for another server; libpq would prefer it to the embedded server's password file
        os.environ.pop("PGPASSWORD", None)
        url = control.start(create=create) if may_start_database() else control.reachable_url()
    return DatabaseUrl(url)


def no_database() -> bool:
    """Whether no database is named and none has been made."""
    return not os.environ.get("DATABASE_URL") and control.status().state == "absent"


class Session(Connection):
    """A psycopg2 connection that knows whether a pooler is between it and the server.

    A pooler such as pgbouncer in transaction mode may run each transaction in a different session.
    A session's settings would affect other clients, so they are set per transaction instead.
    """

    pooled = False
    role = database = ""
    schema: str | None = None
    """The schema of dataminer's tables, once it is known."""


def connect(*, create: bool = False, name: str = "dataminer", check: bool = True) -> Session:
    """Open a connection that uses UTC and ends statements that hang.

    Parameters
    ----------
    create : bool
        See :func:`database_url`.
    name : str
        What `pg_stat_activity` shows as ``application_name``.
    check : bool
        Whether the tables must be dataminer's and current; each process checks once.

    Raises
    ------
    NoTables
        If the database has no tables of dataminer yet.
    DatabaseError
        If the server cannot be reached or refuses, or the tables belong to another program or
        another version.
    """
    url = database_url(create=create)
    try:
        session = _connect(url, name[:63])
    except psycopg2.Error as error:
        reason = url.cleaned(" ".join(str(error).split())) or type(error).__name__
        hint = way_in(reason)
        if not os.environ.get("DATABASE_URL"):
            hint = "see `dataminer db status`"
        raise DatabaseError(f"the database at {url} cannot be reached: {reason}", hint) from error
    if check and _location() not in _checked:
        try:
            with explained():
                limited(session)
                _checked[_location()] = tables.require_tables(session)
                session.rollback()
        except BaseException:
            session.close()
            raise
    session.schema = _checked.get(_location())
    return session


def limited(session: Session) -> None:
    """Set the limits of a session, which a pooler does not keep, for one transaction."""
    if session.pooled:
        with session.cursor() as cursor:
            cursor.execute(_SET_LIMITS)


@contextmanager
def reading(name: str, *, snapshot: bool = True, check: bool = True) -> Iterator[Session]:
    """Open a read-only connection, optionally to one snapshot of the database.

    Parameters
    ----------
    name : str
        See :func:`connect`.
    snapshot : bool
        Whether all statements see the database as it was at the first one.
    check : bool
        See :func:`connect`.
    """
    session = connect(name=name, check=check)
    try:
        level = "REPEATABLE READ" if snapshot else None
        session.set_session(readonly=True, isolation_level=level)
        with explained():
            limited(session)
            yield session
    finally:
        session.close()


@contextmanager
def explained() -> Iterator[None]:
    """Turn a refusal of the server into an error with a next step."""
    try:
        yield
    except psycopg2.Error as error:
        refusal = explain_refusal(error)
        if refusal is None:
            raise
        raise refusal from error


def _connect(url: DatabaseUrl, name: str) -> Session:
    parameters = {
        "connect_timeout": "10",
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "client_encoding": "UTF8",
        **url.parameters,
        "application_name": name,
    }
    given = parameters.pop("options", None) or os.environ.get("PGOPTIONS", "")
    try:
        session = _opened({**parameters, "options": f"{given} {_OPTIONS}".strip()})
    except psycopg2.OperationalError as error:
        if _REFUSED_OPTIONS not in str(error):
            raise
        if given:
            raise _not_passed_on(url, given) from error
        session = _opened(parameters)
    if session.get_parameter_status("TimeZone") != _UTC:  # The pooler dropped the options
        if given:
            session.close()
            raise _not_passed_on(url, given)
        session.pooled = True
        _command(session, "SET timezone = %s", _UTC)  # poolers track this one
    return session


def _not_passed_on(url: DatabaseUrl, given: str) -> DatabaseError:
    return DatabaseError(
        f"the pooler at {url} does not pass on options such as {given!r}",
        "leave them out, and have an administrator set them for the role, such as"
        " ALTER ROLE ... IN DATABASE ... SET search_path = dataminer",
    )


def _opened(parameters: dict[str, Any]) -> Session:
    session: Session = psycopg2.connect("", connection_factory=Session, **parameters)
    session.role, session.database = session.info.user, session.info.dbname
    return session


def transaction(
    work: Callable[[Connection], T],
    *,
    patience: float = 0.0,
    name: str = "dataminer",
    keep: bool = True,
    single: bool = False,
) -> T:
    """Run ``work`` in one transaction on a separate connection.

    Parameters
    ----------
    work : callable
        Called with the connection, and again after a transient failure. Its result is returned.
    patience, name : float, str
        How many seconds to retry after transient failures; for the name see :func:`connect`.
    keep : bool
        Whether to keep the connection open for another transaction within seconds.
    single : bool
        Whether ``work`` is one statement, which needs no BEGIN and COMMIT.
    """

    def once() -> T:
        with _borrowed(name, keep=keep) as connection, explained():
            if connection.pooled or not single:
                with connection:
                    limited(connection)
                    return work(connection)
            connection.autocommit = True
            result = work(connection)
            connection.autocommit = False
            return result

    try:  # nearly always enough, and cheaper than tenacity
        return once()
    except Exception as error:
        if not (patience and _may_pass(error)):
            raise
    return _retrying(patience)(once)


@cache  # a new one takes as long as a statement
def _retrying(patience: float) -> Retrying:
    return Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.2, max=15),
        reraise=True,
    )


@dataclass(frozen=True)
class _Spare:
    """An open connection that no thread uses: its process, its URL, and since when it is idle."""

    connection: Session
    pid: int
    location: tuple[str, ...]
    since: float


_spares: list[_Spare] = []
# the schema of the tables, per database that this process has checked
_checked: dict[tuple[str, ...], str | None] = {}


@contextmanager
def _borrowed(name: str, *, keep: bool) -> Iterator[Session]:
    """Provide a connection for one transaction: a spare one if it is still open."""
    connection = _take(name) or _open(name)
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    if keep and len(_spares) < _MOST_SPARES and _ends_by_itself(connection):
        _spares.append(_Spare(connection, os.getpid(), _location(), time.monotonic()))
    else:
        connection.close()


def _open(name: str) -> Session:
    connection = connect(name=name)
    if _ends_by_itself(connection):
        _command(connection, "SET idle_session_timeout = %s", f"{_SPARE_SECONDS}s")
    return connection


def _ends_by_itself(connection: Session) -> bool:
    """Whether the server can end idle connections after a timeout."""
    return connection.server_version >= _IDLE_TIMEOUT_SINCE and not connection.pooled


def _take(name: str) -> Session | None:
    while _spares:
        try:
            spare = _spares.pop()
        except IndexError:  # another thread was faster
            return None
        if spare.pid != os.getpid():
            continue  # The parent process's: closing it here would end the parent's session
        young = time.monotonic() - spare.since < _SPARE_SECONDS - 1
        if young and spare.location == _location() and _revived(spare.connection, name):
            return spare.connection
        spare.connection.close()
    return None


def _revived(connection: Connection, name: str) -> bool:
    """Return whether a connection is still open, and set its application name."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):  # An unrequested message from the server means that it ended the session
            return False
        if connection.get_parameter_status("application_name") != name[:63]:
            _command(connection, "SET application_name = %s", name[:63])
    except psycopg2.Error:
        return False
    return True


def _command(connection: Connection, command: str, value: str) -> None:
    """Run a statement outside any transaction."""
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(command, (value,))
    connection.autocommit = False


def _location() -> tuple[str, ...]:
    """Return what identifies a database."""
    url = os.environ.get("DATABASE_URL")
    return (url,) if url else ("", os.environ.get("DATAMINER_PGDATA", ""), os.getcwd())


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, DatabaseAway):
        return True
    if isinstance(error, DatabaseError):
        error = error.__cause__ or error
    if isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        # a lost connection has no SQLSTATE
        if error.pgcode is None:
            return refused_at_the_door(str(error)) is None
        return bool(_TRANSIENT.match(error.pgcode))
    code = getattr(error, "pgcode", None)
    return bool(code and _TRANSIENT.match(code))
