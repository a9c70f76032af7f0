"""`make update-yt-dlp`, with releases that work and releases that do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.paths import BIN, ROOT
from tools import check_yt_dlp

BEFORE, AFTER, SOLVER = distribution("yt-dlp").version, "2999.1.1", "0.999.0"
# what a release may lose without an error: answers would be unpacked without a bound
LOST = ("yt_dlp/networking/_urllib.py", "deflate")

pytestmark = pytest.mark.skipif(not (BIN / "uv").exists(), reason="uv is not in the environment")


class Environment(NamedTuple):
    """A virtual environment that has all packages of this one, and an index with a few releases."""

    folder: Path
    releases: Path

    def update(self, path: str) -> subprocess.CompletedProcess[str]:
        """Run the script with the programs of ``path`` and no index but ours."""
        kept = {
            name: os.environ[name] for name in ("HOME", "OPENBLAS_CORETYPE") if name in os.environ
        }
        own = {
            "PATH": path,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.releases),
            "UV_OFFLINE": "1",
            "UV_FIND_LINKS": str(self.releases),
            "UV_CACHE_DIR": str(self.releases / "cache"),
        }
        command = [ROOT / "tools" / "update_yt_dlp.sh", self.folder]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**kept, **own},
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )

    def versions(self) -> list[str]:
        code = "from importlib.metadata import version as v; print(v('yt-dlp'), v('yt-dlp-ejs'))"
        python = self.folder / "bin" / "python"
        return subprocess.check_output([python, "-I", "-c", code], text=True).split()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path / "venv", tmp_path / "index")
    made.releases.mkdir()
    venv.create(made.folder, symlinks=True)
    (site,) = made.folder.glob("lib/python*/site-packages")
    (site / "all.pth").write_text(f"{distribution('yt-dlp').locate_file('')}\n")
    wheel(made.releases, "yt-dlp-ejs", SOLVER)
    return made


def wheel(index: Path, name: str, version: str, renamed: tuple[str, str] = ("", "")) -> None:
    """Write a release that is the installed one but for its version, and a name in a file."""
    found, written = distribution(name), f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(index / f"{written}-py3-none-any.whl", "w") as archive:
        for file in found.files or ():
            path, source = file.as_posix(), Path(str(file.locate()))
            info = re.sub(r"^[^/]+\.dist-info/", f"{written}.dist-info/", path)
            if path.startswith("..") or "__pycache__" in path or info.endswith("/RECORD"):
                continue
            content = source.read_bytes()
            if path == renamed[0]:
                old = renamed[1].encode()
                assert old in content
                content = content.replace(old, old + b"_anew")
            if info.endswith("dist-info/METADATA"):
                content = content.replace(
                    f"Version: {found.version}".encode(), b"Version: " + version.encode()
                )
                content = re.sub(
                    rb"(Requires-Dist: yt-dlp-ejs==)[\d.]+", rb"\g<1>" + SOLVER.encode(), content
                )
            archive.writestr(info, content)
        archive.writestr(f"{written}.dist-info/RECORD", "")


@pytest.mark.slow
@pytest.mark.parametrize("path", [f"{BIN}:/usr/bin:/bin", "/usr/bin:/bin"], ids=["uv", "pip"])
def test_a_release_that_works_is_taken(environment: Environment, path: str) -> None:
    wheel(environment.releases, "yt-dlp", AFTER)
    done = environment.update(path)
    assert done.returncode == 0, done.stderr
    assert f"yt-dlp: {BEFORE} -> {AFTER}, yt-dlp-ejs {SOLVER}" in done.stdout
    assert environment.versions() == [AFTER, SOLVER]
    assert ("using pip" in done.stderr) == (str(BIN) not in path)
    again = environment.update(path)
    assert (again.returncode, again.stdout) == (
        0,
        f"yt-dlp {AFTER} stays: the newest release is {AFTER}\n",
    )


@pytest.mark.slow
def test_a_release_that_does_not_work_is_left(environment: Environment) -> None:
    before = environment.versions()
    wheel(environment.releases, "yt-dlp", AFTER, LOST)
    done = environment.update(f"{BIN}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "HTTPHandler has no deflate any more" in done.stderr
    assert f"yt-dlp {BEFORE} stays: {AFTER} does not work" in done.stderr
    assert environment.versions() == before


@pytest.mark.slow
def test_what_ends_a_job_waits_for_the_installation(
    environment: Environment, tmp_path: Path
) -> None:
    """Ctrl-C between removing the old and installing the new would leave neither."""
    wheel(environment.releases, "yt-dlp", AFTER)
    shim = tmp_path / "bin" / "uv"
    shim.parent.mkdir()
    stop = "for signal in HUP INT TERM; do kill -s $signal 0; done"
    real = f'exec {BIN}/uv "$@"'
    shim.write_text(f'#!/bin/bash\n[[ " $* " == *" --target "* ]] || {{ {stop}; }}\n{real}\n')
    shim.chmod(0o755)
    done = environment.update(f"{shim.parent}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert environment.versions() == [AFTER, SOLVER]


def test_an_older_release_is_no_news(environment: Environment) -> None:
    wheel(environment.releases, "yt-dlp", "2000.1.1")
    done = environment.update(f"{BIN}:/usr/bin:/bin")
    assert (done.returncode, done.stdout) == (
        0,
        f"yt-dlp {BEFORE} stays: the newest release is 2000.1.1\n",
    )


def test_the_check_knows_all_that_our_classes_replace() -> None:
    for ours in check_yt_dlp.our_classes():
        theirs = super(ours, ours)
        replaced = {name for name in vars(ours) if name[:2] != "__" and hasattr(theirs, name)}
        listed = check_yt_dlp.REPLACED.get(ours.__name__, "").split()
        assert replaced - {"_abc_impl"} == set(listed)


def test_the_check_passes_here() -> None:
    command = [sys.executable, "-m", "tools.check_yt_dlp"]
    subprocess.run(command, cwd=ROOT, check=True)
