"""The database's URL: parsed by libpq, checked before use, and shown without a password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2.extensions import parse_dsn

from dataminer.errors import DatabaseError
from dataminer.urls import HIDDEN, MaskedUrl

_SCHEME = re.compile(r"([a-z][a-z0-9]{0,19})(?:\+[a-z0-9]*)?://", re.IGNORECASE)
_SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key")
_LOCATION_KEYS = ("user", "host", "port", "dbname")
_SHORT = 4  # a shorter password is part of many words; libpq's messages never repeat it
HINT = (
    "set it to postgresql://USER@HOST/NAME with the password in ~/.pgpass, or unset it for the"
    " embedded server; in a user name or password, write @ as %40, : as %3A, / as %2F, ? as %3F"
    " and % as %25"
)


class DatabaseUrl(MaskedUrl):
    """The address of a database, as ``postgresql://…`` or libpq's ``key=value`` pairs.

    Parameters
    ----------
    raw : str
        The text that the user wrote.

    Raises
    ------
    DatabaseError
        If it cannot be parsed; the message repeats no part of the URL.
    """

    __slots__ = ("parameters",)

    def __init__(self, raw: str) -> None:
        super().__init__(raw)
        self.parameters: dict[str, str] = _parse(raw.strip())
        """libpq's connection parameters, including secrets."""

    @property
    def masked(self) -> str:
        """Only the user, host, port and name of the database."""
        parts = {key: self.parameters.get(key, "") for key in _LOCATION_KEYS}
        parts["user"] = parts["user"].partition(":")[0]  # part of a password with an encoded colon
        if "://" in parts["dbname"] or "@" in parts["dbname"]:
            parts["dbname"] = HIDDEN
        return _composed(parts, {})

    @property
    def without_password(self) -> str:
        """The URL without secrets, for a program that gets the password in another way."""
        hidden = (*_SECRETS, *_LOCATION_KEYS)
        return _composed(
            self.parameters, {k: v for k, v in self.parameters.items() if k not in hidden}
        )

    def cleaned(self, text: str) -> str:
        """Remove this URL's secrets from a text, such as a message of libpq."""
        for key in _SECRETS:
            secret = self.parameters.get(key)
            if secret and len(secret) >= _SHORT:
                for spelling in {secret, quote(secret), quote(secret, safe="")}:
                    text = text.replace(spelling, HIDDEN)
        return text


def _composed(parts: Mapping[str, str], query: Mapping[str, str]) -> str:
    user, host, port, name = (parts.get(key, "") for key in _LOCATION_KEYS)
    hosts = [f"[{one}]" if ":" in one else one for one in host.split(",")]
    ports = port.split(",")
    if host.startswith(("/", "@")):  # the folder of a socket
        hosts, ports = [""], [""]
        query = {"host": host, **({"port": port} if port else {}), **query}
    if len(ports) < len(hosts):
        ports = ports[:1] * len(hosts)
    addresses = [
        f"{at}:{number}" if number else at for at, number in zip(hosts, ports, strict=False)
    ]
    login = f"{quote(user, safe='')}@" if user else ""
    url = f"postgresql://{login}{','.join(addresses)}/{quote(name, safe='')}"
    return f"{url}?{urlencode(query, quote_via=quote)}" if query else url


def _parse(raw: str) -> dict[str, str]:
    scheme = _SCHEME.match(raw)
    if scheme is None and "://" in raw.partition("=")[0]:
        raise _unreadable()
    if scheme is not None:
        if scheme[1].lower() not in ("postgresql", "postgres"):
            raise DatabaseError(
                f"DATABASE_URL begins with {scheme[1]}, but dataminer works only with PostgreSQL",
                HINT,
            )
        raw = f"postgresql://{raw[scheme.end() :]}"
        _refuse_ambiguous(raw.partition("://")[2])
    parameters: dict[str, str] | None = None
    with suppress(psycopg2.Error):  # whose message repeats the URL
        parameters = parse_dsn(raw)
    if parameters is None:
        raise _unreadable()
    _refuse_impossible(parameters)
    return parameters


def _refuse_ambiguous(rest: str) -> None:
    """Refuse a second @, and a / before the first: libpq would parse what follows as the host."""
    host_list = rest.partition("?")[0]
    if host_list.count("@") > 1 or "@" in host_list.partition("/")[2]:
        raise _unreadable()


def _refuse_impossible(parameters: dict[str, str]) -> None:
    host, port = parameters.get("host", ""), parameters.get("port", "")
    numbers = [part for part in port.split(",") if part]
    if not all(part.isascii() and part.isdigit() and int(part) < 65536 for part in numbers):
        raise _unreadable()
    if not host.startswith(("/", "@")) and re.search(r"[@/\s]", host):
        raise _unreadable()


def _unreadable() -> DatabaseError:
    return DatabaseError("DATABASE_URL cannot be read as a PostgreSQL URL", HINT)
