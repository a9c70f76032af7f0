"""What lets one in, and where somebody's files lie, stands in nothing that leaves."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest

from dataminer.config import MonitorConfig
from dataminer.monitor.terminal import live
from dataminer.monitor.web import server as web
from dataminer.store.layout import Store
from tests.support import videos
from tests.support.http_server import Server, serve
from tests.support.postgres import execute, superuser_of
from tests.support.site import Site

HIDDEN_FOLDER = "folder"


@dataclass
class Planted:
    """Random values by what they are, and everything that was said since."""

    values: dict[str, str] = field(default_factory=dict)
    run_command: list[tuple[str, str]] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.values.setdefault(name, f"{name[:2]}{secrets.token_hex(9)}")

    def forms(self, name: str) -> list[bytes]:
        """Return the spellings of a value: plain, percent-encoded, and the three of base64."""
        plain = self.values[name].encode()
        encoded = [base64.b64encode(b"x" * shift + plain) for shift in range(3)]
        inner = [text[4:-4] for text in encoded]  # what does not depend on the bytes around it
        percent = "".join(f"%{byte:02X}" for byte in plain)
        return [plain, percent.encode(), percent.lower().encode(), *inner]

    def found_in(self, data: bytes, names: list[str]) -> list[str]:
        return [name for name in names if any(form in data for form in self.forms(name))]


@contextmanager
def watched(planted: Planted) -> Iterator[None]:
    """Note the command lines of all processes meanwhile."""
    end, seen = threading.Event(), set[str]()

    def watch_processes() -> None:
        while not end.wait(0.2):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                except OSError:
                    continue
                seen.add(line)

    thread = threading.Thread(target=watch_processes)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        planted.run_command += [("the process list", line) for line in seen]


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.fixture
def http() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture
def secret_site(
    site: Site,
    server: str,
    planted: Planted,
    http: Server,
    shapes_weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A project of sources of which each holds a secret; some of them fail."""
    clips = tmp_path_factory.mktemp("films") / planted[HIDDEN_FOLDER] / "my trip"
    clips.mkdir(parents=True)
    videos.make_video(clips / "lake 1.mp4", frames=50, size=(320, 240))
    (clips / "removed.mp4").write_bytes(b"there when it is listed, and not when it is fetched")
    address = urlsplit(http.url).netloc
    served = clips / "lake 1.mp4"
    http.add(f"/exp=17~hmac={planted['hmac']}/a.mp4", served)
    cookies = site.folder / "cookies.txt"
    cookies.write_text(
        "# Netscape HTTP Cookie File\n"
        f"127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\t{planted['cookie']}\n"
    )
    links = site.folder / "links.txt"
    links.write_text(
        f"http://{address}/gone.mp4?X-Amz-Signature={planted['signature']}&st={planted['st']}\n"
        f"http://{planted['badly']}:{planted['written']}@{address}:port/c.mp4\n"
    )
    site.configure(
        project="trip",
        input={
            "urls": [
                f"http://{planted['user']}:{planted['password']}@{address}/exp=17~hmac={planted['hmac']}/"
                f"a.mp4?token={planted['token']}",
                f"http://{address}/sig/{planted['signed']}/http://u:{planted['nested']}@other/"
                f"gone;jsessionid={planted['session']}?{planted['keyless']}",
            ],
            "url_files": ["links.txt"],
            "files": [str(clips)],
        },
        download={
            "cookies": str(cookies),
            "proxy": f"http://proxy:{planted['proxy']}@{address}",
            "extractor_args": [f"youtube:po_token=web+{planted['extractor']}"],
            "retries": 0,
        },
        filter={"min_sharpness": 0},
        detect={"model": str(shapes_weights), "image_size": 320},
    )
    role = f"role_{secrets.token_hex(5)}"
    superuser = superuser_of(server)
    execute(superuser, f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{planted['database']}'")
    here = urlsplit(site.database)
    where = "&".join(item for item in here.query.split("&") if not item.startswith("passfile"))
    yield Site(
        site.folder,
        f"postgresql://{role}:{planted['database']}@{here.hostname or ''}{here.path}?{where}",
    )
    left = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    execute(superuser, left)  # this process keeps a connection for some seconds
    execute(superuser, f"DROP ROLE {role}")


# what a store and a database must keep, to fetch again what is gone
KEEPS_RAW = ("config/config.yaml", "cookies.txt", "links.txt")


def test_no_secret_leaves(secret_site: Site, planted: Planted) -> None:
    site = secret_site

    def run_command(*command: str, where: Site = site) -> int:
        done = where.dataminer_here(*command)
        planted.run_command.append((" ".join(command), done.stdout + done.stderr))
        return done.returncode

    def snakemake(*arguments: str) -> None:
        done = site.snakemake(*arguments)
        planted.run_command.append((f"snakemake {' '.join(arguments)}", done.stdout + done.stderr))

    with watched(planted):
        run_command("populate", "--dry-run")
        done = site.dataminer("populate")
        planted.run_command.append(("populate", done.stdout + done.stderr))
        ids = [row[0] for row in site.rows("SELECT video_id FROM videos ORDER BY 1")]
        assert len(ids) == 5, planted.run_command
        next(site.folder.parent.rglob("removed.mp4")).unlink()
        snakemake("-c2", "-p", "--verbose")
        statuses = dict(site.rows("SELECT status, count(*) FROM videos GROUP BY 1"))
        assert statuses == {"EXTRACTED": 2, "FAILED": 3}, planted.run_command[-1]
        assert site.rows("SELECT project_stage FROM projects") == [("COMPLETE",)]
        snakemake("--report", "page.html")
        link = f"http://u:{planted['added']}@127.0.0.1/add.mp4?key={planted['key']}"
        for command in (
            ["status"], ["status", "--json"],
            ["monitor", "--once"], ["monitor", "--once", "--json"],
            ["sync", "--dry-run"], ["sync"], ["retry", "--dry-run"],
            ["report", "trip"], ["preview", "trip"],
            ["budget", "show"], ["db", "status"], ["db", "url"], ["db", "upgrade"],
            *(["why", video_id] for video_id in ids),
            *(["why", video_id, "--json"] for video_id in ids),
            *(["export", "trip", "--format", kind, "--to", f"exports/{kind}"] for kind in FORMATS),
            ["add-video", link, "--project", "trip", "--dry-run"],
            ["add-video", link, "--project", "trip"],
        ):  # fmt: skip
            assert run_command(*command) == 0, planted.run_command[-1]
        for name, url in database_urls(planted, site).items():
            for command in (["status"], ["db", "status"], ["db", "url"], ["db", "upgrade"]):
                code = run_command(*command, where=Site(site.folder, url))
            assert (code == 0) == (name in WORKING), (name, planted.run_command[-4:])
        planted.run_command += pages(site)
        files = list(written(site))
        for command in (
            ["force-dedup", "trip", "--yes"], ["force-detect", "trip", "--yes"], ["retry"],
            ["delete-videos", ids[0], "--yes", "--all-projects"],
            ["delete-project", "trip", "--yes"],
            ["cleanup-orphans"], ["cleanup-orphans", "--yes"],
        ):  # fmt: skip
            assert run_command(*command) == 0, planted.run_command[-1]
    names = list(planted.values)
    secret = [name for name in names if name != HIDDEN_FOLDER]
    found = [
        (where, planted.found_in(text.encode(), secret)) for where, text in planted.run_command
    ]
    assert [(where, leaked) for where, leaked in found if leaked] == []
    for path, data in files:
        store = path.is_relative_to(site.folder / "data")
        leaves = not store or "report" in path.parts or "detect" in path.parts
        logs = "logs" in path.parts or ".snakemake" in path.parts
        assert planted.found_in(data, names if leaves and not logs else secret) == [], path


WORKING = ("good", "in the query", "pairs", "a driver")
FORMATS = ("coco", "yolo", "webdataset", "imagefolder", "csv", "parquet")


def database_urls(planted: Planted, site: Site) -> dict[str, str]:
    """Return eight spellings of a database's URL, good and broken."""
    parts = urlsplit(site.database)
    password, user = planted["database"], parts.username
    pairs = dict(parse_qsl(parts.query))
    host, port, name = quote(pairs["host"], safe=""), pairs["port"], parts.path
    return {
        "good": site.database,
        "in the query": f"postgresql://{name}?user={user}&password={password}&host={host}"
        f"&port={port}",
        "pairs": f"host={pairs['host']} port={port} dbname={name[1:]} user={user}"
        f" password={password}",
        "a driver": site.database.replace("postgresql://", "postgresql+psycopg2://"),
        "an @": f"postgresql://{user}:{password}@x@127.0.0.1{name}",
        "a bad %": f"postgresql://{user}:{password}%zz@127.0.0.1{name}",
        "nobody there": f"postgresql://{user}:{password}@127.0.0.1:1{name}",
        "a quote": f"host=127.0.0.1 password='{password}",
    }


def pages(site: Site) -> list[tuple[str, str]]:
    """Return all that the live page is sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", site.database)
        patch.chdir(site.folder)
        live_monitor = live.Monitor([], MonitorConfig(), read_only=True)
        shown = web.Site(live_monitor, [], Store(Path("data")), 1.0)
        server = web.serve(shown)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            base = web.url_of(server)
            ids = [row[0] for row in site.rows("SELECT video_id FROM videos")]
            requested = ["", "now.json", "videos.json", *(f"why.json?video={name}" for name in ids)]
            return [(path, urlopen(f"{base}{path}").read().decode()) for path in requested]
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def written(site: Site) -> Iterator[tuple[Path, bytes]]:
    """Yield each file with its contents; of a frame table what its columns say."""
    for path in sorted(site.folder.rglob("*")):
        relative = str(path.relative_to(site.folder))
        if not path.is_file() or relative in KEEPS_RAW:
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            data += repr(table.schema.metadata).encode()
            texts = [c for c in table.column_names if "string" in str(table[c].type)]
            data += repr(table.select(texts).to_pylist()).encode()
        yield path, relative.encode() + data
