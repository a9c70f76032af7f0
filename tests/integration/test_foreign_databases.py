"""A site's own database: another program's tables, what its server refuses, a pooler before it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

import psycopg2
import pytest
from typer.testing import CliRunner

from dataminer.cli.main import app, main
from dataminer.config import MonitorConfig
from dataminer.db import connection, schema, tables
from dataminer.db.connection import transaction
from dataminer.errors import DatabaseError
from dataminer.store.layout import Store
from dataminer.sync.claims import claim_end, claims, projects, stage_rows
from dataminer.sync.repair import run_hooks
from tests.support.postgres import dump, execute, fresh_database, superuser_of
from tests.support.rows import Given, held
from tests.support.waiting import wait_until


@pytest.fixture
def superuser(server: str) -> str:
    """The URL of a role of the shared server that may do anything."""
    url = superuser_of(server)
    try:
        execute(url, "SELECT 1")
    except psycopg2.Error:
        pytest.skip("the server that DATAMINER_TEST_DATABASE_URL names has no superuser for tests")
    return url


@dataclass(frozen=True)
class Role:
    """A role with a password, for one test."""

    name: str
    server: str

    def url(self, database: str, **parameters: str) -> str:
        """Return the URL of a database as this role sees it."""
        parts = urlsplit(database)
        endpoint = [item for item in parse_qsl(parts.query) if item[0] in ("host", "port")]
        query = "&".join(f"{key}={quote(value)}" for key, value in [*endpoint, *parameters.items()])
        return f"postgresql://{self.name}:pw@{parts.hostname or ''}{parts.path}?{query}"


@pytest.fixture
def role(superuser: str) -> Iterator[Role]:
    name = f"role_{uuid.uuid4().hex[:10]}"
    execute(superuser, f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    yield Role(name, superuser)
    execute(superuser, f"DROP ROLE {name}")


@contextmanager
def owned_by_superuser(superuser: str, role: Role, options: str = "") -> Iterator[str]:
    """Give a database that belongs to somebody else, as the role's DATABASE_URL."""
    name = f"site_{uuid.uuid4().hex[:10]}"
    execute(superuser, f"CREATE DATABASE {name} {options}")
    url = superuser.replace(urlsplit(superuser).path, f"/{name}", 1)
    try:
        yield url
    finally:
        connection._spares.clear()
        execute(superuser, f"DROP DATABASE {name} WITH (FORCE)")


def dataminer(*arguments: str) -> str:
    """Run a command that must end with one sentence; return it."""
    done = CliRunner().invoke(app, list(arguments))
    assert isinstance(done.exception, DatabaseError), (done.exception, done.output)
    return str(done.exception)


# ---- another program's tables


FOREIGN = """
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('{revision}');
CREATE TABLE customers (id int); INSERT INTO customers VALUES (1), (2);
"""
CONFLICTING = """
CREATE TABLE projects (id serial PRIMARY KEY, name text, project_id int);
INSERT INTO projects (name, project_id) VALUES ('birds', 1);
CREATE TABLE videos (video_id text PRIMARY KEY, url text);
INSERT INTO videos VALUES ('v1', 'x');
"""
COMMANDS = [
    ["status"],
    ["status", "--json"],
    ["add-video", "https://example.org/a.mp4", "--project", "birds"],
    ["populate", "--config", "config.yaml"],
    ["sync", "--config", "config.yaml"],
    ["retry", "--config", "config.yaml"],
    ["why", "v1", "--config", "config.yaml"],
    ["monitor", "--once"],
    ["monitor", "--once", "--read-only"],
    ["delete-project", "birds", "--config", "config.yaml", "--yes"],
    ["delete-videos", "v1", "--config", "config.yaml", "--yes"],
    ["cleanup-orphans", "--config", "config.yaml", "--yes"],
    ["force-dedup", "birds", "--config", "config.yaml"],
    ["force-detect", "birds", "--config", "config.yaml"],
    ["budget", "show"],
    ["budget", "reset"],
    ["db", "init"],
    ["db", "upgrade"],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "project: birds\ninput: {urls: ['https://example.org/a.mp4']}\n"
    )
    return tmp_path


def test_another_programs_tables_stay_as_they_are(
    server: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    with fresh_database(server, prefix="other") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        execute(url, FOREIGN.format(revision="0005") + CONFLICTING)
        before = dump(url)
        for command in COMMANDS:
            words = dataminer(*command)
            assert "another program's public.projects, public.videos" in words, command
            assert "CREATE SCHEMA dataminer" in words
            assert "CREATE DATABASE" in words
        dry = CliRunner().invoke(app, ["populate", "--config", "config.yaml", "--dry-run"])
        assert "another program's" in dry.output
        with pytest.raises(DatabaseError, match="another program's"):
            run_hooks.bring_up_to_date(["birds"], MonitorConfig(), Store(Path("data")))
        assert dump(url) == before


@pytest.mark.parametrize("revision", ["0005", "0001", "9999", "1975ea83b712"])
def test_another_programs_revision_is_not_taken_for_ours(
    server: str, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    with fresh_database(server, prefix="other") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        execute(url, FOREIGN.format(revision=revision))
        before = dump(url)
        assert "no tables yet" in dataminer("status")
        assert dump(url) == before
        assert schema.upgrade() == tables.HEAD
        assert execute(url, "SELECT * FROM alembic_version") == [(revision,)]
        assert execute(url, "SELECT count(*) FROM customers") == [(2,)]
        assert execute(url, "SELECT * FROM dataminer_version") == [(tables.HEAD,)]
        projects.add_videos("p", [Given("v1")])
        assert schema.upgrade() == tables.HEAD


def test_a_schema_of_its_own_beside_another_programs_tables(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(server, prefix="other") as url:
        execute(url, FOREIGN.format(revision="0005") + CONFLICTING + "CREATE SCHEMA dataminer")
        monkeypatch.setenv("DATABASE_URL", f"{url}&options=-csearch_path%3Ddataminer")
        assert schema.upgrade() == tables.HEAD
        projects.add_videos("birds", [Given("v1"), Given("v2")])
        assert execute(url, "SELECT count(*) FROM dataminer.videos") == [(2,)]
        assert execute(url, "SELECT * FROM public.videos") == [("v1", "x")]
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("PGOPTIONS", "-c search_path=dataminer")
        assert schema.upgrade() == tables.HEAD
        assert projects.known_videos("birds", ["v1"]) == {"v1": True}


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW dataminer_version AS SELECT '0005'::text AS version_num",
        "CREATE TABLE dataminer_version (version_num text)",
        "CREATE TABLE dataminer_version (x int)",
        "CREATE TABLE projects ()",
        "CREATE TABLE other (id int); CREATE INDEX ix_videos_running ON other (id)",
        "CREATE TYPE breakers AS ENUM ('a')",
        "CREATE FUNCTION dataminer_refuse_move() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_something_of_one_of_our_names_is_left_alone(
    server: str, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    with fresh_database(server, prefix="other") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        execute(url, statement)
        before = dump(url)
        words = dataminer("db", "init")
        assert "another program's" in words or "a name that dataminer uses" in words
        assert "CREATE SCHEMA dataminer" in words
        assert dump(url) == before


def test_a_schema_that_comes_first_is_enough(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database(server, prefix="other") as url:
        execute(url, FOREIGN.format(revision="0003") + CONFLICTING + "CREATE SCHEMA dataminer")
        path = "&options=-csearch_path%3Ddataminer,public"
        monkeypatch.setenv("DATABASE_URL", url + path)
        assert schema.upgrade() == tables.HEAD
        assert execute(url, "SELECT * FROM dataminer.dataminer_version") == [(tables.HEAD,)]
        monkeypatch.setenv("DATABASE_URL", url + "&options=-csearch_path%3Dpublic,dataminer")
        assert "another program's public.projects" in dataminer("status")


# ---- tables of other versions of dataminer


def test_tables_of_the_version_before_move_over_by_themselves(database: str) -> None:
    projects.add_videos("p", [Given("v1")])
    execute(database, "ALTER TABLE dataminer_version RENAME TO alembic_version")
    connection._checked.clear()
    assert projects.known_videos("p", ["v1"]) == {"v1": True}
    assert schema.current() == tables.HEAD
    assert schema.upgrade() == tables.HEAD
    assert execute(database, "SELECT to_regclass('alembic_version')::text") == [(None,)]
    assert projects.known_videos("p", ["v1"]) == {"v1": True}


def test_a_shared_version_table_keeps_the_other_programs_row(database: str) -> None:
    execute(
        database,
        "ALTER TABLE dataminer_version RENAME TO alembic_version;"
        "INSERT INTO alembic_version VALUES ('1975ea83b712')",
    )
    assert schema.upgrade() == tables.HEAD
    rows = execute(database, "SELECT version_num FROM alembic_version ORDER BY 1")
    assert rows == [(tables.HEAD,), ("1975ea83b712",)]


def test_who_could_read_the_old_version_table_can_read_the_new_one(
    database: str, superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = superuser.replace(urlsplit(superuser).path, urlsplit(database).path, 1)
    execute(
        database,
        "ALTER TABLE dataminer_version RENAME TO alembic_version;"
        "INSERT INTO alembic_version VALUES ('1975ea83b712')",
    )
    execute(site, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
    try:
        assert schema.upgrade() == tables.HEAD
        monkeypatch.setenv("DATABASE_URL", role.url(database))
        assert CliRunner().invoke(app, ["status"]).exit_code == 0
    finally:
        execute(site, f"DROP OWNED BY {role.name}")


def test_old_tables_whose_owner_may_make_none_go_on_working(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owned_by_superuser(superuser, role) as site:
        monkeypatch.setenv("DATABASE_URL", role.url(site))
        execute(site, f"GRANT CREATE ON SCHEMA public TO {role.name}")
        schema.upgrade()
        execute(site, "ALTER TABLE dataminer_version RENAME TO alembic_version")
        execute(site, f"REVOKE CREATE ON SCHEMA public FROM {role.name}")
        assert schema.upgrade() == tables.HEAD
        projects.add_videos("p", [Given("v1")])
        assert CliRunner().invoke(app, ["status"]).exit_code == 0


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM dataminer_version", "DROP TABLE dataminer_version",
     "ALTER TABLE dataminer_version RENAME TO alembic_version;"
     "INSERT INTO alembic_version VALUES ('0003')"],
)  # fmt: skip
def test_tables_of_no_known_version_are_refused_with_the_way_out(
    database: str, statement: str
) -> None:
    execute(database, statement)
    connection._checked.clear()
    words = dataminer("status")
    assert "the version of dataminer's tables" in words
    statements = words.partition("have their owner run ")[2].partition("; or restore")[0]
    execute(database, statements)
    assert schema.upgrade() == tables.HEAD


def test_another_programs_version_table_in_a_schema_before_ours(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(
        database,
        "ALTER TABLE dataminer_version RENAME TO alembic_version; CREATE SCHEMA app;"
        "CREATE TABLE app.alembic_version AS SELECT '0003'::text AS version_num",
    )
    monkeypatch.setenv("DATABASE_URL", f"{database}&options=-csearch_path%3Dapp,public")
    connection._checked.clear()
    assert schema.current() == tables.HEAD
    assert schema.upgrade() == tables.HEAD
    assert execute(database, "SELECT * FROM app.alembic_version") == [("0003",)]
    assert execute(database, "SELECT * FROM public.dataminer_version") == [(tables.HEAD,)]


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("9999", "newer dataminer"),
        ("10000", "newer dataminer"),
        ("0004", "older dataminer.*dataminer db upgrade"),
    ],
)
def test_tables_of_another_version_are_named_so(database: str, revision: str, words: str) -> None:
    execute(database, f"UPDATE dataminer_version SET version_num = '{revision}'")
    connection._checked.clear()
    with pytest.raises(DatabaseError, match=words):
        projects.known_videos("p", ["v1"])
    with pytest.raises(DatabaseError, match=words):
        projects.add_videos("p", [Given("v1")])


# ---- what a server refuses


def test_no_right_to_create_tables(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owned_by_superuser(superuser, role) as site:
        monkeypatch.setenv("DATABASE_URL", role.url(site))
        words = dataminer("db", "init")
        assert f"role {role.name} may not create tables in schema public" in words
        grant = f"GRANT CREATE ON SCHEMA public TO {role.name}"
        assert grant in words
        execute(site, grant)
        assert schema.upgrade() == tables.HEAD


def test_the_schema_that_is_advised_works(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owned_by_superuser(superuser, role) as site:
        monkeypatch.setenv("DATABASE_URL", role.url(site))
        words = dataminer("db", "init")
        create, _, rest = words.partition("or CREATE SCHEMA ")[2].partition(", and ")
        execute(site, f"CREATE SCHEMA {create}; {rest}")
        assert schema.upgrade() == tables.HEAD
        assert execute(site, "SELECT count(*) FROM dataminer.projects") == [(0,)]


def test_a_search_path_of_schemas_that_are_not_there(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owned_by_superuser(superuser, role) as site:
        monkeypatch.setenv("DATABASE_URL", role.url(site, options="-csearch_path=nowhere"))
        words = dataminer("db", "init")
        assert "no schema of the search_path" in words
        assert "CREATE SCHEMA" in words


def test_a_role_that_may_only_look(
    database: str, superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects.add_videos("p", [Given("v1")])
    site = superuser.replace(urlsplit(superuser).path, urlsplit(database).path, 1)
    execute(site, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
    try:
        monkeypatch.setenv("DATABASE_URL", role.url(database))
        done = CliRunner().invoke(app, ["status", "--json"])
        assert done.exit_code == 0, done.output
        words = dataminer("add-video", "https://example.org/a.mp4", "--project", "p")
        assert "permission denied" in words
        assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES" in words
    finally:
        execute(site, f"DROP OWNED BY {role.name}")


def test_a_role_without_any_right(
    database: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", role.url(database))
    words = dataminer("status")
    assert "permission denied" in words
    assert "GRANT USAGE ON SCHEMA" in words


@pytest.mark.parametrize("path", ["dataminer", "dataminer,public"])
def test_tables_in_a_schema_that_a_role_may_not_use(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    with owned_by_superuser(superuser, role) as site:
        execute(site, f"CREATE SCHEMA dataminer; GRANT CREATE ON SCHEMA public TO {role.name}")
        options = f"-csearch_path={path}"
        monkeypatch.setenv("DATABASE_URL", f"{site}&options={quote(options)}")
        schema.upgrade()
        monkeypatch.setenv("DATABASE_URL", role.url(site, options=options))
        before = dump(site)
        for command in (["status"], ["db", "init"]):
            words = dataminer(*command)
            assert f"role {role.name} may not use schema dataminer" in words
        assert dump(site) == before
        execute(site, words.partition("have their owner run ")[2])
        assert CliRunner().invoke(app, ["status"]).exit_code == 0


@pytest.mark.parametrize(
    ("statement", "way_out"),
    [
        ("ALTER ROLE {} NOLOGIN", "ALTER ROLE ... LOGIN"),
        ("ALTER ROLE {} CONNECTION LIMIT 0", "raise CONNECTION LIMIT"),
        ("ALTER ROLE {} PASSWORD 'another'", None),
    ],
)
def test_a_role_that_may_not_connect(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch, statement: str, way_out: str | None
) -> None:
    with owned_by_superuser(superuser, role) as site:
        monkeypatch.setenv("DATABASE_URL", role.url(site))
        execute(site, statement.format(role.name))
        words = dataminer("status")
        assert (way_out or "Next: ") in words
        assert "pw@" not in words


@pytest.mark.parametrize("tables_there", [True, False])
def test_a_server_that_can_only_be_read(
    server: str, template: str, monkeypatch: pytest.MonkeyPatch, tables_there: bool
) -> None:
    with fresh_database(server, template if tables_there else None, prefix="standby") as url:
        read_only = f"{url}&options=-cdefault_transaction_read_only%3Don"
        monkeypatch.setenv("DATABASE_URL", read_only)
        command = ["add-video", "https://example.org/a.mp4", "--project", "p"]
        words = dataminer(*command)
        assert "is read-only" in words
        assert "default_transaction_read_only" in words
        if tables_there:
            assert CliRunner().invoke(app, ["status"]).exit_code == 0


def test_an_encoding_that_holds_no_other_languages(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    with owned_by_superuser(superuser, role, latin) as site:
        monkeypatch.setenv("DATABASE_URL", site)
        words = dataminer("db", "init")
        assert "has the encoding LATIN1" in words
        assert "ENCODING 'UTF8'" in words


def test_titles_that_tables_made_before_cannot_hold(
    superuser: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    with owned_by_superuser(superuser, role, latin) as site:
        monkeypatch.setenv("DATABASE_URL", site)
        monkeypatch.setattr(schema, "_refuse_unfit", lambda *_: None)  # as before November 2026
        schema.upgrade()
        projects.add_videos("p", [Given("v1", source_info={"title": "Größe"})])
        with pytest.raises(DatabaseError, match=r"encoding cannot hold.*ENCODING 'UTF8'"):
            projects.add_videos("p", [Given("v2", source_info={"title": "鳥"})])
        assert projects.known_videos("p", ["v1", "v2"]) == {"v1": True}


def test_a_percent_sign_in_the_checkouts_path(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "50%20off %(here)s"
    source = Path(schema.__file__).parents[2]
    shutil.copytree(
        source / "dataminer", checkout / "dataminer", ignore=shutil.ignore_patterns("__pycache__")
    )
    with fresh_database(server, prefix="percent") as url:
        env = os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(checkout)}
        code = "from dataminer.db import schema; print(schema.__file__, schema.upgrade())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=env, cwd=checkout, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(f" {tables.HEAD}\n")
        assert str(checkout) in done.stdout


# ---- a pooler


@contextmanager
def pgbouncer(database: str, folder: Path, settings: str = "") -> Iterator[str]:
    """Run pgbouncer in transaction mode before a database; give the URL of that."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    parts = urlsplit(database)
    endpoint = dict(parse_qsl(parts.query))
    name = parts.path.removeprefix("/")
    lines = Path(endpoint["passfile"]).read_text().splitlines()
    (password,) = {line.split(":")[4] for line in lines if line.split(":")[3] == parts.username}
    folder.chmod(0o755)
    run_folder = Path("/tmp") / f"pgbouncer-{uuid.uuid4().hex[:8]}"
    run_folder.mkdir(mode=0o777)
    run_folder.chmod(0o777)
    config = run_folder / "pgbouncer.ini"
    config.write_text(
        f"""[databases]
{name} = host={endpoint["host"]} port={endpoint["port"]} user={parts.username} password='{password}'
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {run_folder}
auth_type = any
pool_mode = transaction
default_pool_size = 2
pidfile = {run_folder}/pid
logfile = {run_folder}/log
{settings}
"""
    )
    owner = Path(endpoint["host"]).owner()  # pgbouncer refuses to run as root
    user = ["-u", owner] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, "-q", *user, str(config)])
    try:
        wait_until((run_folder / ".s.PGSQL.6432").exists, 20)
        yield f"postgresql://anybody@/{name}?host={quote(str(run_folder))}&port=6432"
    finally:
        connection._spares.clear()
        process.terminate()
        process.wait(20)
        shutil.rmtree(run_folder, ignore_errors=True)


class Pooled(NamedTuple):
    url: str
    behind: str


@pytest.fixture(params=["", "ignore_startup_parameters = options,extra_float_digits"])
def pooled(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Pooled]:
    """A database without tables that pgbouncer stands before, with settings of its own."""
    with (
        fresh_database(server, prefix="pooled") as behind,
        pgbouncer(behind, tmp_path, request.param) as url,
    ):
        monkeypatch.setenv("DATABASE_URL", url)
        yield Pooled(url, behind)


def test_a_pooler_in_transaction_mode(pooled: Pooled) -> None:
    assert schema.upgrade() == tables.HEAD
    projects.add_videos("p", [Given("v1"), Given("v2")])
    claim = held(stage_rows.DOWNLOAD, video_id="v1")
    claims.beat(claim)
    claim_end.finish(claim, "DOWNLOADED", {"video_path": "x"}, lambda: None)
    assert CliRunner().invoke(app, ["status", "--json"]).exit_code == 0

    def limits(session: psycopg2.extensions.connection) -> list[str]:
        found = []
        for name in ("timezone", "statement_timeout", "idle_session_timeout"):
            with session.cursor() as cursor:
                cursor.execute(f"SHOW {name}")
                found += [row[0] for row in cursor.fetchall()]
        return found

    assert transaction(limits)[1:] == ["1min", "0"]
    assert transaction(limits, single=True)[1:] == ["1min", "0"]
    # nothing stays behind in the sessions that others get next
    assert execute(pooled.url, "SHOW statement_timeout") == [("0",)]


def test_options_that_a_pooler_does_not_pass_on(
    pooled: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(pooled.behind, "CREATE SCHEMA dataminer")
    before = dump(pooled.behind)
    monkeypatch.setenv("DATABASE_URL", f"{pooled.url}&options=-csearch_path%3Ddataminer")
    words = dataminer("db", "init")
    assert "does not pass on options" in words
    assert "ALTER ROLE" in words
    assert dump(pooled.behind) == before


@pytest.mark.parametrize("pooled", ["pool_mode = statement"], indirect=True)
def test_a_pooler_in_statement_mode(pooled: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dataminer", "status"])
    with pytest.raises(SystemExit, match="pool_mode set to transaction or session"):
        main()
