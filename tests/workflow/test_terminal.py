"""What a run shows: a block that moves in a terminal, lines in a file, and how it ends."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import videos
from tests.support.http_server import serve
from tests.support.paths import BIN, ROOT
from tests.support.runs import Barrier, Run, populate, until
from tests.support.site import Site
from tests.support.terminal import Terminal

ALL = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
COMMAND: list[str | Path] = [BIN / ALL[0], *ALL[1:], "only_dedup"]
UP, HIDE = b"\x1b[1A", b"\x1b[?25l"  # a line up; hide the cursor


@pytest.fixture
def barrier(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Barrier]:
    """A project of a good video, a broken one, and one whose download the test holds up."""
    folder = tmp_path_factory.mktemp("clips")
    videos.make_video(folder / "good.mp4")
    videos.make_video(folder / "slow.mp4", frames=30)
    (folder / "empty.mp4").touch()
    barrier = Barrier(folder / "slow.mp4")
    with serve() as http:
        files = [str(folder / "good.mp4"), str(folder / "empty.mp4")]
        populate(site, {"files": files, "urls": [http.add("/slow.mp4", barrier)]})
        yield barrier
        barrier.open()


def terminal(site: Site, *arguments: str) -> Terminal:
    return Terminal([*COMMAND, *arguments], site.folder, site.environment())


def last_of(text: str) -> str:
    """Return what stands below the last block."""
    return text.rpartition("This run took")[2]


def test_a_block_moves_in_a_terminal_and_gives_way_to_what_came_of_the_run(
    site: Site, barrier: Barrier
) -> None:
    with terminal(site) as window:
        window.until("download  ")
        window.until("1 of 3")
        window.until("1 failed: 1 empty")
        barrier.open()
        assert window.end() == 0, window.text
        assert window.settings_now() == window.settings
    assert window.seen.count(UP) > 3, "the block was drawn over itself"
    assert HIDE not in window.seen, "a run that is killed could not bring the cursor back"
    for line in ("Finished jobid", "Select jobs", "Execute "):
        assert line not in window.text
    assert "dataminer: download: 3 due (3 new)" in window.text
    reported = [line for line in window.text.splitlines() if " FAILED: " in line]
    assert reported and all(line.startswith("dataminer: video empty-") for line in reported), (
        reported
    )
    assert any(
        line.endswith("`dataminer retry --class empty --project birds`") for line in reported
    )
    end = last_of(window.text)
    assert "2 downloaded" in end
    assert "\nbirds: DETECT_READY, 2 of 3 videos extracted, 1 failed\n" in end
    assert "  failed    1 empty: empty-" in end
    assert "dataminer export birds --format imagefolder --frames-only --to exports/birds" in end
    assert f"  done      only_dedup, as asked. The rest:\n            {shlex.join(ALL)}\n" in end
    assert "go on" not in end
    assert "━" not in end


def test_ctrl_c_leaves_the_terminal_as_it_was_and_a_command_that_goes_on(
    site: Site, barrier: Barrier
) -> None:
    begun_in, there = site.folder.parent, ["--directory", site.folder.name]
    with Terminal([*COMMAND, *there], begun_in, site.environment()) as window:
        window.until("1 of 3")
        window.interrupt()
        assert window.end() == 1, window.text
        assert window.settings_now() == window.settings
    assert HIDE not in window.seen
    assert "Terminating processes on user request" in window.text
    assert "Traceback" not in window.text, "a job may have been ended while its Python started"
    end = last_of(window.text)
    assert "\nbirds: FILTERING" in end
    assert "━" not in end
    (command,) = re.findall("^  go on     (.*)$", end, re.M)
    assert command == shlex.join([ALL[0], "only_dedup", *ALL[1:], *there])
    barrier.open()
    pasted = subprocess.run(
        command, shell=True, cwd=begun_in, env=site.environment(), capture_output=True, text=True
    )
    assert pasted.returncode == 0, pasted.stderr
    assert f"  dataset   {site.folder.name}/data/projects/birds/dedup\n" in pasted.stderr
    assert "  done      only_dedup, as asked." in pasted.stderr


def test_in_a_file_there_are_plain_lines(site: Site, barrier: Barrier) -> None:
    run = Run(site, "only_dedup")
    until(lambda: "\ndataminer: download 1 of 3 (" in run.printed, run, "a line of progress")
    barrier.open()
    assert run.end() == 0, run.printed
    assert "\x1b" not in run.printed
    assert "━" not in run.printed
    assert "Finished jobid" not in run.printed
    assert "2 downloaded" in last_of(run.printed)
    (log,) = (site.folder / ".snakemake" / "log").glob("*.log")
    assert "Finished jobid" in log.read_text(), "Snakemake's own log has all its lines"


@pytest.mark.parametrize(
    ("option", "lines", "ends"), [("--verbose", True, True), ("--quiet=all", False, False)]
)
def test_snakemakes_own_lines_and_silence_are_there_for_the_asking(
    site: Site, barrier: Barrier, option: str, lines: bool, ends: bool
) -> None:
    barrier.open()
    with terminal(site, option) as window:
        assert window.end() == 0, window.text
    assert ("Finished jobid" in window.text) is lines
    assert "━" not in window.text
    assert ("birds: DETECT_READY" in window.text) is ends


def test_looking_shows_no_block(site: Site, tmp_path: Path) -> None:
    clip = videos.make_video(tmp_path / "clip.mp4")
    populate(site, {"files": [str(clip)]})
    for option in ("-n", "--dag"):
        with terminal(site, option) as window:
            window.end()
        assert "━" not in window.text
        assert "This run took" not in window.text
