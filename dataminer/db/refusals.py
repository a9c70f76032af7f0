"""What a server's refusals mean, and which statement or setting resolves them."""

from __future__ import annotations

import re

import psycopg2

from dataminer.errors import DatabaseError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_DENIED, _READ_ONLY, _NO_SCHEMA = "42501", "25006", "3F000"
_UNTRANSLATABLE = ("22P05", "22021")
_TAKEN = ("42P07", "42710", "42723")  # a table or index, a type, or a function with that name
_TIMEOUT, _LOCKED = "57014", "55P03"

OWN_SCHEMA = (
    "CREATE SCHEMA dataminer AUTHORIZATION {role}, and"
    " ALTER ROLE {role} IN DATABASE {database} SET search_path = dataminer"
)
UTF8 = "CREATE DATABASE dataminer ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL"

# Texts, because psycopg2 gives no SQLSTATE for a refused connection. Refusals that need a change
# first are reported at once.
_AT_THE_DOOR = {
    "password authentication failed|no password supplied": "correct user and password in"
    " DATABASE_URL or ~/.pgpass; an administrator sees with VALID UNTIL whether it has expired",
    "authentication failed": "correct the user in DATABASE_URL, or what the server asks for",
    "no pg_hba.conf entry": "have an administrator let this machine, role and database in with a"
    " line in pg_hba.conf",
    'role ".*" does not exist': "correct the user in DATABASE_URL, or have an administrator run"
    " CREATE ROLE ... LOGIN",
    'database ".*" does not exist': "correct the name in DATABASE_URL, or have an administrator"
    " run CREATE DATABASE",
    "not permitted to log in": "have an administrator run ALTER ROLE ... LOGIN",
    "permission denied for database": "have an administrator run GRANT CONNECT ON DATABASE",
    "does not support SSL": "set sslmode=prefer in DATABASE_URL, or have SSL set up there",
}
_CROWDED = re.compile("too many (clients|connections)|remaining connection slots")


def refused_at_the_door(reason: str) -> str | None:
    """Return the next step for a refused connection if waiting does not help, otherwise None."""
    return next(
        (hint for pattern, hint in _AT_THE_DOOR.items() if re.search(pattern, reason)), None
    )


def way_in(reason: str) -> str:
    """Return the next step for a failed connection."""
    if _CROWDED.search(reason):
        return "try again later, or have an administrator raise CONNECTION LIMIT or max_connections"
    return refused_at_the_door(reason) or "check DATABASE_URL and that the server runs"


def quoted(name: str) -> str:
    """Return a name as it is written in SQL."""
    if re.fullmatch("[a-z_][a-z0-9_]*", name):
        return name
    return '"' + name.replace('"', '""') + '"'


def explain_refusal(error: psycopg2.Error) -> DatabaseError | None:
    """Explain a server's refusal in one sentence; None if the error is not a refusal.

    Parameters
    ----------
    error : psycopg2.Error
        As a statement raised it.
    """
    message = _message(error)
    if error.pgcode == _DENIED:
        return DatabaseError(f"the database refuses this role: {message}", _grant(error, message))
    if error.pgcode == _READ_ONLY:
        return read_only(message, *_who(error)[:2])
    if error.pgcode == _NO_SCHEMA:
        return DatabaseError(
            "no schema of the search_path exists", "CREATE SCHEMA, or set another search_path"
        )
    if error.pgcode in _UNTRANSLATABLE:
        return DatabaseError(f"the database's encoding cannot hold a text: {message}", UTF8)
    if error.pgcode in _TAKEN:
        role, database, _ = _who(error)
        return DatabaseError(
            f"the database has something else under a name that dataminer uses: {message}",
            f"have an administrator run {OWN_SCHEMA.format(role=role, database=database)}",
        )
    return None


def last_words(error: BaseException) -> DatabaseError | None:
    """Explain in one sentence how the database made a command fail."""
    if not isinstance(error, psycopg2.Error):
        return None
    message = _message(error)
    role, _, _ = _who(error)
    if error.pgcode == _TIMEOUT:
        hint = f"have an administrator run ALTER ROLE {role} RESET statement_timeout; or try again"
    elif error.pgcode == _LOCKED:
        hint = "try again; SELECT * FROM pg_stat_activity shows who holds the lock"
    elif "closed the connection" in message:
        hint = (
            "try again; if the server is behind a pooler, have its pool_mode set to transaction"
            " or session"
        )
    else:
        hint = "try again, and see `dataminer db status`"
    return explain_refusal(error) or DatabaseError(f"the database did not answer: {message}", hint)


def read_only(what: str, role: str, database: str) -> DatabaseError:
    """Return the error for a read-only database."""
    return DatabaseError(
        f"the database is read-only: {what}",
        "name the primary server in DATABASE_URL; or, if it is set so, have an administrator run"
        f" ALTER ROLE {role} RESET default_transaction_read_only, or ALTER DATABASE {database}"
        " RESET default_transaction_read_only",
    )


def no_usage(role: str, schema: str) -> DatabaseError:
    """Return the error for tables in a schema that a role may not use."""
    return DatabaseError(
        f"role {role} may not use schema {schema}, in which the tables are",
        f"have their owner run {_grants(role, schema)}",
    )


def _grant(error: psycopg2.Error, message: str) -> str:
    role, _, schema = _who(error)
    if "must be owner" in message:
        return "have the owner of the tables run `dataminer db upgrade`"
    if "row-level security" in message:
        return f"have the owner of the tables create a policy that lets {role} read and write them"
    denied = re.search("permission denied for schema (.*)", message)
    if denied:
        return f"have its owner run GRANT USAGE, CREATE ON SCHEMA {quoted(denied[1])} TO {role}"
    return f"have the owner of the tables run {_grants(role, schema)}"


def _grants(role: str, schema: str) -> str:
    return (
        f"GRANT USAGE ON SCHEMA {schema} TO {role};"
        f" GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};"
        f" GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"
    )


def _who(error: psycopg2.Error) -> tuple[str, str, str]:
    """Return the role, the database and the tables' schema, quoted for SQL."""
    session = getattr(error.cursor, "connection", None)
    names = [getattr(session, key, None) for key in ("role", "database", "schema")]
    unknown = ("ROLE", "DATABASE", "SCHEMA")
    role, database, schema = (
        quoted(name) if name else key for name, key in zip(names, unknown, strict=True)
    )
    return role, database, schema


def _message(error: psycopg2.Error) -> str:
    return " ".join((error.diag.message_primary or str(error)).split())
