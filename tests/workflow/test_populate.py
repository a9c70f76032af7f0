"""`dataminer populate` and `add-video`, as commands."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import videos, youtube_lists, youtube_server
from tests.support.http_server import Reply, serve
from tests.support.paths import BIN
from tests.support.site import Site

SPELLINGS = [
    "https://www.youtube.com/watch?v=aqz-KE-bpKQ",
    "http://m.youtube.com/watch?list=PL1&v=aqz-KE-bpKQ",
    "youtu.be/aqz-KE-bpKQ?t=10",
    "https://www.youtube.com/shorts/aqz-KE-bpKQ",
    "https://www.youtube-nocookie.com/embed/aqz-KE-bpKQ",
    "https://youtube.com/live/aqz-KE-bpKQ?feature=share",
    "youtube:aqz-KE-bpKQ",
]


@pytest.fixture
def filled(site: Site) -> Site:
    """A site with a folder of two videos and a link file of which some lines cannot be used."""
    (site.folder / "clips").mkdir()
    for name in ("one", "two"):
        videos.make_video(site.folder / "clips" / f"{name}.mp4", frames=5)
    lines = [
        "# videos of the week",
        *SPELLINGS,
        "",
        "https://example.org/a/clip.mp4   # a plain file",
        "clips/one.mp4",
        "clips/missing.mp4",
        "file:///etc/passwd",
        "hello-world",
        "https://www.youtube.com/clip/UgkxXYZ",
    ]
    (site.folder / "links.txt").write_text("\n".join(lines))
    site.configure(project="birds", input={"files": ["clips"], "url_files": ["links.txt"]})
    return site


def known(site: Site) -> dict[str, str]:
    return dict(site.rows("SELECT video_id, source_type FROM videos"))


def test_every_usable_source_is_added_once_and_the_others_are_told(filled: Site) -> None:
    done = filled.dataminer("populate")
    assert done.returncode == 0
    assert "4 videos added, 0 known already (4 new to the store), 4 not used" in done.stdout
    assert "Next: `snakemake -n`" in done.stdout
    reported = [line for line in done.stderr.splitlines() if line.startswith("not used: ")]
    assert [line.split(": ")[1] for line in reported] == [
        f"links.txt line {n}" for n in (12, 13, 14, 15)
    ]
    ids = known(filled)
    assert ids.pop("aqz-KE-bpKQ") == "URL"
    assert sorted(name.rpartition("-")[0] for name in ids) == ["clip", "one", "two"]
    assert filled.rows("SELECT total_videos, project_stage FROM projects") == [(4, "POPULATING")]


def test_adding_the_same_again_changes_nothing(filled: Site) -> None:
    filled.dataminer_here("populate")
    before = filled.dump()
    again = filled.dataminer_here("populate")
    assert "0 videos added, 4 known already (0 new to the store)" in again.stdout
    assert filled.dump() == before


def test_a_video_by_hand(filled: Site) -> None:
    done = filled.dataminer_here("add-video", "clips/two.mp4", "--project", "fish")
    assert "project fish: 1 video added" in done.stdout
    assert "snakemake -n --config project=fish" in done.stdout
    assert list(known(filled).values()) == ["MANUAL"]
    assert filled.dataminer_here("add-video", "clips", "--project", "fish").returncode == 0
    assert len(known(filled)) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add-video", "nothing.mp4", "--project", "p"], "no such file"),
        (["add-video", "https://youtube.com/@a/playlists", "--project", "p"], "youtube.com/@a/pl"),
        (["add-video", "clips/one.mp4", "--project", "../p"], "project: must be letters"),
        (["populate", "--config", "no.yaml"], "no.yaml cannot be read"),
    ],
)
def test_what_cannot_be_added_ends_with_one_sentence(
    filled: Site, arguments: list[str], sentence: str
) -> None:
    done = filled.dataminer_here(*arguments)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert known(filled) == {}


def test_a_config_that_names_no_video_says_where_to_write_them(site: Site) -> None:
    site.configure(project="void")
    done = site.dataminer_here("populate")
    assert done.returncode == 1
    assert "no videos are named in" in done.stderr
    assert "Next: fill input.files" in done.stderr


def test_the_first_command_of_all_makes_the_database(site: Site, tmp_path: Path) -> None:
    videos.make_video(site.folder / "one.mp4", frames=5)
    home = tmp_path / "pg"
    alone = {"DATABASE_URL": "", "DATAMINER_PGDATA": str(home)}
    try:
        assert site.dataminer("status", **alone).returncode == 1
        assert not home.exists()
        done = site.dataminer("add-video", "one.mp4", "--project", "birds", **alone)
        assert done.returncode == 0, done.stderr
        assert "birds" in site.dataminer("status", **alone).stdout
    finally:
        site.dataminer("db", "stop", **alone)


def test_ctrl_c_ends_a_long_list_and_adds_what_was_found(site: Site) -> None:
    site.configure(project="birds", input={"urls": ["youtube.com/@someone", "clips"]})
    started: list[subprocess.Popen[str]] = []

    def on_page(page: int) -> Reply | None:
        if page < 6:
            return None
        started[0].send_signal(signal.SIGINT)
        return Reply(delay=60)

    with serve() as http:
        youtube_lists.add_lists(http, {"@someone": youtube_lists.entries(500)}, on_page)
        environment = {
            **os.environ,
            **youtube_server.environment(http),
            "DATABASE_URL": site.database,
        }
        command = [str(BIN / "dataminer"), "populate"]
        started.append(
            subprocess.Popen(
                command,
                cwd=site.folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        out, reported = started[0].communicate(timeout=120)
    assert started[0].returncode == 130, reported
    assert "channel https://www.youtube.com/@someone: 100 videos of 100 so far" in reported
    assert "interrupted: 120 videos were found so far; run again for the rest" in reported
    assert "project birds: 120 videos added" in out
    assert "Traceback" not in reported
    assert site.rows("SELECT count(*), min(title), max(duration) FROM videos") == [
        (120, "Video 0", 120.0)
    ]
