"""Stores that can only be read, or that belong to somebody else: one sentence, with what to do."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from dataminer.errors import NEXT_STEP, ErrorClass, TransientError
from dataminer.permissions import group_name, named, user_name
from tests.support.mined import PROJECT, configure, mine
from tests.support.paths import ROOT
from tests.support.postgres import fresh_database
from tests.support.site import Site

WRITING = (
    ("report", PROJECT),
    ("preview", PROJECT),
    ("export", PROJECT, "-f", "csv", "--to", "data/out"),
    ("force-dedup", PROJECT, "--yes"),
    ("force-detect", PROJECT, "--yes"),
    ("delete-videos", "VIDEO", "--project", PROJECT, "--yes"),
    ("delete-videos", "VIDEO", "--files", "--yes"),
    ("delete-project", PROJECT, "--files", "--yes"),
)
UNSHARE = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
# prints how each of some commands ends
EACH = """
import json, os, sys
from pathlib import Path
from tests.support.site import Site

site = Site(Path.cwd(), os.environ["DATABASE_URL"])
for words in json.loads(sys.argv[1]):
    done = site.dataminer_here(*words)
    print(done.returncode, done.stderr.strip().replace("\\n", " | "))
"""


@pytest.fixture(scope="module")
def site(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with fresh_database(server, template, "closed") as database:
        made = Site(tmp_path_factory.mktemp("site"), database)
        configure(made)
        mine(made)
        assert made.dataminer_here("sync").returncode == 0  # joins store and database
        yield made


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Have nobody write in a folder for a while, root included."""
    paths = [(path, path.stat().st_mode) for path in (folder, *folder.rglob("*"))]
    for path, mode in paths:
        path.chmod(mode & ~0o222)
    try:
        with without_capabilities():
            yield
    finally:
        for path, mode in paths:
            path.chmod(mode)


@contextlib.contextmanager
def without_capabilities() -> Iterator[None]:
    """Have the system treat root as any other user: linux/capability.h, version 3."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    libc.capget(header, before)
    without[:] = [before[0] & ~0b1111, *before[1:]]  # CAP_DAC_OVERRIDE and the like
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def words_of(site: Site, command: tuple[str, ...]) -> list[str]:
    (video, *_) = sorted(os.listdir(site.folder / "data" / "videos"))
    return [video if word == "VIDEO" else word for word in command]


def test_what_belongs_to_others_is_named_with_what_lets_one_in(site: Site) -> None:
    before = site.listing()
    with closed(site.folder / "data"):
        done = site.dataminer_here("preview", PROJECT)
    assert done.returncode == 1
    # without the capabilities of root, the tests' database may be out of reach, which comes first
    line = done.stderr.splitlines()[-1]
    assert line.startswith("dataminer: ")
    assert "data/projects/birds/report may not be written to by" in line
    assert ", mode dr-x" in line
    assert "umask 002" in line
    assert site.listing() == before


def test_a_file_that_may_not_be_read_is_named(site: Site) -> None:
    table = site.folder / "data/projects" / PROJECT / "dedup" / "frames.parquet"
    mode = table.stat().st_mode
    with closed(site.folder / "data"):
        table.chmod(0o200)
        done = site.dataminer_here("export", PROJECT, "-f", "csv", "--frames-only", "--to", "out")
    assert table.stat().st_mode == mode
    assert done.returncode == 1
    assert "dedup/frames.parquet may not be read by" in done.stderr
    assert "mode --w-------" in done.stderr


def test_a_file_system_that_is_mounted_read_only_is_named(site: Site) -> None:
    if subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("this system lets nobody mount")
    before = site.dump(), site.listing()
    commands = json.dumps([words_of(site, command) for command in WRITING])
    mount = "mount --bind data data && mount -o remount,ro,bind data"
    done = subprocess.run(
        [
            *UNSHARE,
            "bash",
            "-c",
            f'{mount} && exec "$0" -c "$1" "$2"',
            sys.executable,
            EACH,
            commands,
        ],
        cwd=site.folder,
        env=site.environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    reported = done.stdout.splitlines()
    assert len(reported) == len(WRITING)
    for line in reported:
        assert line.startswith("1 dataminer: ")
        assert "mounted read-only" in line or "Read-only file system. Next: give --to" in line
    assert (site.dump(), site.listing()) == before


def test_a_working_folder_that_nobody_may_write_in_is_named(site: Site) -> None:
    if subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("this system lets nobody mount")
    mount = 'mount --bind . . && mount -o remount,ro,bind . && cd "$PWD"'
    words = ("snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n")
    done = subprocess.run(
        [*UNSHARE, "bash", "-c", f'{mount} && exec "$0" "$@"', *words],
        cwd=site.folder,
        env=site.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "profile" not in line]
    assert line.startswith("dataminer: ")
    assert line.endswith("with --output or --to")
    assert "mounted read-only" in line


def test_a_job_is_told_what_this_machine_refuses(tmp_path: Path) -> None:
    with closed(tmp_path), pytest.raises(TransientError, match="may not be written to") as caught:
        refused(lambda: (tmp_path / "new" / "folder").mkdir(parents=True))
    assert caught.value.error_class is ErrorClass.PERMISSION
    with closed(tmp_path):
        tmp_path.chmod(0o400)
        with pytest.raises(TransientError, match=f"{tmp_path} may not be entered by"):
            refused((tmp_path / "file").read_bytes)


@pytest.mark.parametrize(
    ("number", "known"),
    [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EIO, "disk")],
)
def test_other_faults_of_a_machine_have_a_next_step(
    tmp_path: Path, number: int, known: str
) -> None:
    for path in (tmp_path / "x", None):
        with pytest.raises(TransientError) as caught:
            refused(partial(fail, OSError(number, os.strerror(number), path)))
        assert caught.value.error_class == known
        assert caught.value.hint == NEXT_STEP[ErrorClass(known)]


def test_what_is_no_fault_of_a_machine_stays_what_it_is() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        refused(lambda: fail(OSError(errno.EINVAL, "Invalid argument", "x")))


def refused(attempt: Callable[[], object]) -> None:
    with named():
        attempt()


def fail(error: OSError) -> None:
    raise error


def test_a_user_without_an_entry_is_named_by_number() -> None:
    assert user_name(987_654_321) == "987654321"
    assert group_name(987_654_321) == "987654321"


def test_snakemake_plans_for_a_user_without_an_entry(site: Site) -> None:
    # systemd would know root of itself
    hidden = "mount --bind /dev/null /etc/passwd && mount --bind /dev/null /etc/nsswitch.conf"
    if subprocess.run([*UNSHARE, "bash", "-c", hidden], check=False).returncode:
        pytest.skip("this system lets nobody mount")
    words = ("snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n", "--forceall")
    done = subprocess.run(
        [*UNSHARE, "bash", "-c", f'{hidden} && exec "$0" "$@"', *words],
        cwd=site.folder,
        env=site.environment(**dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "User: 0\n" in done.stdout, done.stdout
