"""A real PostgreSQL for the whole session, and a database of its own for each test."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# tests fork: a pool of OpenCV's threads would not come along, and its end would be waited for
os.environ["OPENCV_FOR_THREADS_NUM"] = "1"

pytest.register_assert_rewrite("tests.support")  # its assertions tell as much as those of tests

from tests.support.embedded import shared_server  # noqa: E402
from tests.support.once import once  # noqa: E402
from tests.support.postgres import fresh_database, template_of  # noqa: E402
from tests.support.real_time import leave_real_time  # noqa: E402

pytest_plugins = [
    "tests.support.fixtures_browser",
    "tests.support.fixtures_detector",
    "tests.support.fixtures_siglip",
]

# A shell's background jobs ignore Ctrl-C, and so would the programs that tests start and send it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The slowest begin, and the rest fills the gaps. Tests of a file share fixtures and run in one
# process, except in files whose tests are slow and share nothing.
LONGEST = (
    "tests/slurm/",
    "tests/faults/test_runs.py",
    "tests/workflow/test_mining.py",
    "tests/workflow/test_sync.py",
    "tests/integration/test_embedded.py",
    "tests/workflow/",
    "tests/faults/",
    "tests/integration/test_fleet.py",
    "tests/integration/test_extract_ends.py",
    "tests/integration/test_pages.py",
    "tests/integration/",
)
ONE_BY_ONE = (
    "tests/faults/test_runs.py",
    "tests/workflow/test_mining.py",
    "tests/workflow/test_sync.py",
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Hand out whole files, and single tests of the files in ONE_BY_ONE."""

    class ByFileOrTest(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return nodeid if path in ONE_BY_ONE else path

    return ByFileOrTest(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""

    def position(item: pytest.Item) -> int:
        return next((n for n, part in enumerate(LONGEST) if item.nodeid.startswith(part)), 99)

    items.sort(key=position)


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    yield
    leave_real_time()


@pytest.fixture(scope="module", autouse=True)
def leaks_at_home() -> Iterator[None]:
    """Whatever a module's tests left open is warned of here, not in a test of another module.

    yt-dlp leaves sockets to the garbage collector when it fails. Modules that drive it say so in
    their marks, which hold only while their own tests run.
    """
    yield
    gc.collect()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share; it is removed with the server."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"


@pytest.fixture(scope="session")
def server(run_folder: Path) -> Iterator[str]:
    """The URL of a server: the one that DATAMINER_TEST_DATABASE_URL names, else our own."""
    given = os.environ.get("DATAMINER_TEST_DATABASE_URL")
    if given:
        run_folder.mkdir(exist_ok=True)
        yield given
        return
    with shared_server(run_folder) as url:
        yield url


@pytest.fixture(scope="session")
def template(server: str, run_folder: Path) -> str:
    """The name of a database with the tables in it, to make others from."""
    return once(run_folder / "template", lambda: template_of(server))


@pytest.fixture
def database(server: str, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a fresh database with the tables in it, which DATABASE_URL names."""
    with fresh_database(server, template) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield url
