"""``dataminer db``: the database's server and its tables."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Annotated, Optional

import typer

from dataminer.db.connection import database_url
from dataminer.db.server import control
from dataminer.db.server.network import ListenSettings
from dataminer.errors import DatabaseError

app = typer.Typer(
    help="The database. DATABASE_URL names a PostgreSQL server; if it is unset, an embedded server "
    "runs under your account and starts when it is needed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def start(
    address: Annotated[
        Optional[str],
        typer.Argument(
            help="With --listen: the addresses of this machine to listen on, separated by commas; "
            "by default all."
        ),
    ] = None,
    listen: Annotated[
        Optional[bool],
        typer.Option(
            "--listen/--no-listen",
            help="Serve other machines too, such as the compute nodes of a cluster, or only this "
            "machine. The choice is remembered; a running server is restarted if needed.",
        ),
    ] = None,
    port: Annotated[
        Optional[int],
        typer.Option(
            help="With --listen: the port; by default a free one, which is kept.",
            min=1024,
            max=65535,
        ),
    ] = None,
    host: Annotated[
        Optional[str],
        typer.Option(
            help="With --listen: the name or address by which other machines reach this one; by "
            "default its host name."
        ),
    ] = None,
) -> None:
    """Start the embedded server if needed and print its URL.

    Connections over the network need the password, which is in a file that only you can read.

    Example: dataminer db start --listen

    Example: dataminer db start --listen 10.1.0.5 --port 25432
    """
    _embedded_only()
    if (address or port or host) and not listen:
        raise DatabaseError(
            "an address, a port or a host is for other machines only", "add --listen"
        )
    if listen is None:
        print(control.start())
    elif listen:
        print(control.listen(wanted_settings=ListenSettings(address, port, host)))
    else:
        control.serve_own_machine()
        print(control.url())


@app.command()
def stop() -> None:
    """Stop the embedded server; the data stays.

    Example: dataminer db stop
    """
    _embedded_only()
    print("stopped" if control.stop() else "was not running")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show whether the server runs, where its data is, and where it listens.

    Example: dataminer db status --json
    """
    if os.environ.get("DATABASE_URL"):
        facts: dict[str, object] = {"state": "external", "url": str(database_url())}
    else:
        facts = {key: str(value) for key, value in asdict(control.status()).items() if value}
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        print(f"{key:<12} {value}")


@app.command()
def url() -> None:
    """Print the database's URL without a password.

    The password of the embedded server is in a file that only you can read. For DATABASE_URL, psql
    finds it in ~/.pgpass or PGPASSWORD. If the server listens for other machines, the URL works
    there too.

    Example: psql "$(dataminer db url)"
    """
    if os.environ.get("DATABASE_URL"):
        print(database_url().without_password)
    else:
        print(control.status().nodes_url or control.url())


@app.command()
def init() -> None:
    """Create the tables in a new database, or upgrade old ones.

    Example: DATABASE_URL=postgresql://me@dbhost/mining dataminer db init
    """
    upgrade()


@app.command()
def upgrade() -> None:
    """Upgrade the tables to this version; does nothing if they are current.

    Example: dataminer db upgrade
    """
    from dataminer.db import schema

    print(f"tables at revision {schema.upgrade()}")


def _embedded_only() -> None:
    if os.environ.get("DATABASE_URL"):
        raise DatabaseError(
            "DATABASE_URL names a server, which its administrator starts and stops",
            "unset DATABASE_URL to use the embedded one",
        )
