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
from dataminer.db.refusals import explain, refused_at_the_door, way_in
from dataminer.db.server import control
from dataminer.db.url import DatabaseUrl
from dataminer.errors import DatabaseAway, DatabaseError
from dataminer.process import may_start_database

T = TypeVar("T")

# Between two transactions a connection stays open for so long at most: then the server ends it, so
# that hundreds of jobs at work hold none. Before PostgreSQL 14 it cannot, and none is kept.
_SPARE_SECONDS = 5
_MOST_SPARES = 4  # of a process whose threads ask at the same moment
_IDLE_TIMEOUT_SINCE = 140000

# no connection (08), rolled back for another's sake (40), no resources (53), operator's doing (57),
# lock not available (55P03): https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = re.compile(r"^(08|40|53|57|55P03)")
_LIMITS = {
    "statement_timeout": "60000",
    "lock_timeout": "30000",
    "idle_in_transaction_session_timeout": "60000",
}
# in a spelling that is no server's default: what is not so was not set by us
_UTC = "UTC0"
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in [("timezone", _UTC), *_LIMITS.items()])
_SET_LIMITS = "; ".join(f"SET LOCAL {name} = {value}" for name, value in _LIMITS.items())
_REFUSED_OPTIONS = "unsupported startup parameter"


def database_url(*, create: bool = False) -> DatabaseUrl:
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
        When ``DATABASE_URL`` cannot be read, or the embedded server cannot start, or cannot be
        reached by a job.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        # meant for another server, and libpq would prefer it to the embedded one's password file
        os.environ.pop("PGPASSWORD", None)
        url = control.start(create=create) if may_start_database() else control.reachable_url()
    return DatabaseUrl(url)


def no_database() -> bool:
    """Whether no database is named, and none has been made."""
    return not os.environ.get("DATABASE_URL") and control.status().state == "absent"


class Session(Connection):
    """A connection of psycopg2's, and whether a pooler stands between it and the server.

    A pooler such as pgbouncer in transaction mode gives each transaction another of its sessions:
    what is set for a session would be another client's, and is set for each transaction instead.
    """

    pooled = False
    role = database = ""
    schema: str | None = None
    """The schema that dataminer's tables lie in, once it is known."""


def connect(*, create: bool = False, name: str = "dataminer", check: bool = True) -> Session:
    """Open a connection; it sees and writes UTC, and gives up on hanging statements.

    Parameters
    ----------
    create : bool
        See :func:`database_url`.
    name : str
        What `pg_stat_activity` shows as ``application_name``.
    check : bool
        Whether the tables must be ours and current; each process looks once.

    Raises
    ------
    NoTables
        When the database has none of our tables yet.
    DatabaseError
        When the server cannot be reached or refuses, or the tables are another program's or of
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
                _checked[_location()] = tables.require(session)
                session.rollback()
        except BaseException:
            session.close()
            raise
    session.schema = _checked.get(_location())
    return session


def limited(session: Session) -> None:
    """Give the transaction that begins the limits that a pooler does not keep for a session."""
    if session.pooled:
        with session.cursor() as cursor:
            cursor.execute(_SET_LIMITS)


@contextmanager
def reading(name: str, *, snapshot: bool = True, check: bool = True) -> Iterator[Session]:
    """Open a connection that can only read, all of it as of one moment.

    Parameters
    ----------
    name : str
        See :func:`connect`.
    snapshot : bool
        Whether all statements see the database as of the first one.
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
    """Turn what the server refuses into a sentence with the way out."""
    try:
        yield
    except psycopg2.Error as error:
        refusal = explain(error)
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
    if session.get_parameter_status("TimeZone") != _UTC:  # the options were dropped on the way
        if given:
            session.close()
            raise _not_passed_on(url, given)
        session.pooled = True
        _command(session, "SET timezone = %s", _UTC)  # of which poolers keep track
    return session


def _not_passed_on(url: DatabaseUrl, given: str) -> DatabaseError:
    return DatabaseError(
        f"the pooler at {url} passes no options on, such as {given!r}",
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
    """Run ``work`` in one transaction on a connection of its own.

    Parameters
    ----------
    work : callable
        Called with the connection, and again after a transient failure. Its result is returned.
    patience, name : float, str
        Seconds for which transient failures are tried again; for the name see :func:`connect`.
    keep : bool
        Whether the connection stays open for a next transaction within seconds.
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


@cache  # made anew, it takes as long as a statement
def _retrying(patience: float) -> Retrying:
    return Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.2, max=15),
        reraise=True,
    )


@dataclass(frozen=True)
class _Spare:
    """An open connection that no thread uses: of which process, to where, since when."""

    connection: Session
    pid: int
    location: tuple[str, ...]
    since: float


_spares: list[_Spare] = []
# the schema of the tables, of databases that this process has looked at
_checked: dict[tuple[str, ...], str | None] = {}


@contextmanager
def _borrowed(name: str, *, keep: bool) -> Iterator[Session]:
    """Give a connection for one transaction: the spare one, where there is one that lives."""
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
    """Whether an idle connection can be given a time after which the server ends it."""
    return connection.server_version >= _IDLE_TIMEOUT_SINCE and not connection.pooled


def _take(name: str) -> Session | None:
    while _spares:
        try:
            spare = _spares.pop()
        except IndexError:  # another thread was faster
            return None
        if spare.pid != os.getpid():
            continue  # the parent's, whose session a goodbye from here would end
        young = time.monotonic() - spare.since < _SPARE_SECONDS - 1
        if young and spare.location == _location() and _revived(spare.connection, name):
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


def _location() -> tuple[str, ...]:
    """Return what tells one database from another."""
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
