"""Downloads from a loopback server and from the disk, through yt-dlp's real machinery."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError, StageError, TransientError
from dataminer.stages.download import stage, transfer
from dataminer.stages.download.stage import download
from tests.support import youtube_server
from tests.support.downloads import ID, PAGE, QUICK, fails, fetch, names
from tests.support.http_server import Behaviour, Reply, Server, refused_url, serve
from tests.support.videos import audio_only, jpeg, make_video

# yt-dlp leaves files and sockets to the garbage collector when it fails
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audio_only(tmp_path_factory.mktemp("sounds") / "sound.mp4")


# --- what works --------------------------------------------------------------------------------


def test_a_direct_link(server: Server, clip: Path, out: Path) -> None:
    link = server.add("/some/Holiday.mp4", clip)
    result = fetch(link, out, meta={"source_type": "URL", "title": "from the search"})
    assert result.video == out / f"{ID}.mp4"
    assert result.video.read_bytes() == clip.read_bytes()
    assert names(out) == [f"{ID}.mp4", "info.json"]
    assert json.loads((out / "info.json").read_text()) == result.info
    assert server.requests["/some/Holiday.mp4"] == 1
    when = datetime.fromisoformat(result.info.pop("downloaded_at"))
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60
    assert {key: result.info[key] for key in result.info if key != "yt_dlp_version"} == {
        "stage": "download",
        "version": 1,
        "video_id": ID,
        "video": f"{ID}.mp4",
        "url": link,
        "webpage_url": link,
        "title": "Holiday",
        "uploader": None,
        "licence": None,
        "upload_date": None,
        "duration": 2.0,
        "format": {
            "codec": "h264",
            "width": 160,
            "height": 120,
            "fps": 25.0,
            "format_id": "mp4",
            "ext": "mp4",
        },
        "size_bytes": clip.stat().st_size,
        "sha256": hashlib.sha256(clip.read_bytes()).hexdigest(),
        "extractor": "generic",
        "linked": None,
        "source_type": "URL",
    }
    assert result.info["yt_dlp_version"].startswith("20")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/short", 301), ("/short", 302), ("/short", 307), ("/short.mp4", 302), ("/short.mp4", 308)],
)
def test_a_redirect(server: Server, clip: Path, out: Path, path: str, status: int) -> None:
    target = server.add("/real.mp4", clip)
    link = server.add(path, Reply(status, headers={"Location": target}))
    info = fetch(link, out).info
    assert (info["url"], info["webpage_url"], info["title"]) == (link, target, "real")
    # yt-dlp requests again what it was led to, and then for the file
    assert server.requests == {path: 1, "/real.mp4": 1 if path.endswith(".mp4") else 3}


def test_a_link_without_a_suffix_and_of_unknown_type(server: Server, clip: Path, out: Path) -> None:
    reply = Reply(body=clip.read_bytes(), content_type="application/octet-stream")
    assert fetch(server.add("/get?id=1".partition("?")[0], reply), out).video.name == f"{ID}.video"


def test_user_and_password_reach_the_server_and_nothing_else(
    server: Server, clip: Path, out: Path
) -> None:
    link = server.add("/private.mp4", clip).replace("//", "//ann:s3cret@") + "?token=t0ps&v=1"
    info = fetch(link, out).info
    assert server.headers["/private.mp4"]["Authorization"].startswith("Basic ")
    assert info["url"] == f"{server.url}/private.mp4?token=...&v=1"
    server.add("/private.mp4", Reply(status=403))
    (tmp := out / "again").mkdir()
    error = fails(link, tmp)
    for secret in ("s3cret", "t0ps"):
        assert secret not in (out / "info.json").read_text()
        assert secret not in str(error)


def broken(clip: Path) -> Reply:
    """Return an answer whose body breaks off."""
    body = clip.read_bytes()
    return Reply(body=body[:2000], content_type="video/mp4", declared_length=len(body))


# of a link to a file, asked for once; and of one that yt-dlp looks at before it fetches the file
PLAIN, LOOKED_AT = "/clip.mp4", "/clip"


@pytest.mark.parametrize("first", [Reply(status=503), Reply(reset=True)])
@pytest.mark.parametrize("path", [PLAIN, LOOKED_AT])
def test_yt_dlp_tries_again_itself(
    server: Server,
    clip: Path,
    out: Path,
    path: str,
    first: Reply,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dataminer.net.ytdlp_options.retry_delay", lambda n: 0.0)
    link = server.add(path, [broken(clip) if path == PLAIN else clip, first, clip])
    video = fetch(link, out, settings=DownloadConfig(retries=2)).video
    assert video.read_bytes() == clip.read_bytes()
    assert server.requests[path] == 3


@pytest.mark.parametrize("path", [PLAIN, LOOKED_AT])
def test_the_first_request_is_not_repeated(
    server: Server, clip: Path, out: Path, path: str
) -> None:
    error = fails(server.add(path, [Reply(503), clip]), out, settings=DownloadConfig(retries=2))
    assert error.error_class is ErrorClass.SERVER
    assert server.requests[path] == 1


@pytest.mark.parametrize("path", [PLAIN, LOOKED_AT])
def test_a_body_that_breaks_off_is_resumed(
    server: Server, clip: Path, out: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataminer.net.ytdlp_options.retry_delay", lambda n: 0.0)
    first_look = [] if path == PLAIN else [clip]
    link = server.add(path, [*first_look, broken(clip), clip])
    settings = DownloadConfig(retries=1, min_bytes_per_second=50)  # small blocks
    result = fetch(link, out, settings=settings)
    assert result.video.read_bytes() == clip.read_bytes()
    kept = int(server.headers[path]["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 1024 <= kept <= 2000
    assert server.requests[path] == len(first_look) + 2


def test_progress_is_told_now_and_then(
    server: Server, clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    fetch(server.add("/clip.mp4", clip), out, progress=lines.append)
    assert lines == ["downloaded 0.0 MB"]
    monkeypatch.setattr(transfer, "_PROGRESS_SECONDS", 0.0)
    fetch(f"{server.url}/clip.mp4", out, progress=lines.append)
    assert lines[1].startswith("downloading 0.0 of 0.0 MB")


def test_nothing_is_printed(server: Server, clip: Path, out: Path, capfd: Any) -> None:
    fetch(server.add("/clip.mp4", clip), out)
    (other := out / "other").mkdir()
    fails(server.add("/gone.mp4", Reply(status=404)), other)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_with_a_hostile_name(
    server: Server, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = (Path() if relative else tmp_path) / "~ 100% $HOME %(title)s {x} 'q'"
    folder.mkdir()
    result = download(server.add("/clip.mp4", clip), folder, ID, QUICK)
    assert names(folder) == [f"{ID}.mp4", "info.json"]
    assert result.video.parent == folder


def test_user_configuration_and_cache_are_left_alone(
    server: Server, clip: Path, tmp_path: Path, out: Path
) -> None:
    home = tmp_path / "home"
    (home / ".config" / "yt-dlp").mkdir(parents=True)
    (home / ".config" / "yt-dlp" / "config").write_text("--write-thumbnail\n-o /tmp/evil.mp4\n")
    code = (
        "import sys; from pathlib import Path;"
        "from dataminer.stages.download.stage import download;"
        "from dataminer.config.models import DownloadConfig;"
        f"download(sys.argv[1], Path(sys.argv[2]), {ID!r}, DownloadConfig())"
    )
    subprocess.run(
        [sys.executable, "-c", code, server.add("/clip.mp4", clip), str(out)],
        env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""},
        check=True,
    )
    assert names(out) == [f"{ID}.mp4", "info.json"]
    assert not (home / ".cache").exists()


# --- what the server refuses -------------------------------------------------------------------


WHEN = ["plain", "plain, later", "look", "after the look"]


def then(server: Server, clip: Path, when: str, reply: Reply) -> str:
    """Return a link that is answered so at once or later, and always from then on."""
    earlier: dict[str, list[Behaviour]] = {
        "plain, later": [broken(clip)],
        "after the look": [clip],
    }
    return server.add(
        PLAIN if when.startswith("plain") else LOOKED_AT, [*earlier.get(when, []), reply]
    )


@pytest.mark.parametrize(
    ("status", "kind", "permanent"),
    [
        (400, ErrorClass.UNSUPPORTED, True),
        (401, ErrorClass.BLOCKED, False),
        (403, ErrorClass.BLOCKED, False),
        (404, ErrorClass.REMOVED, True),
        (408, ErrorClass.TIMEOUT, False),
        (410, ErrorClass.REMOVED, True),
        (429, ErrorClass.RATE_LIMIT, False),
        (451, ErrorClass.GEO, True),
        (500, ErrorClass.SERVER, False),
        (502, ErrorClass.SERVER, False),
        (503, ErrorClass.SERVER, False),
    ],
)
@pytest.mark.parametrize("when", WHEN)
def test_statuses(
    server: Server,
    clip: Path,
    out: Path,
    status: int,
    kind: ErrorClass,
    permanent: bool,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dataminer.net.ytdlp_options.retry_delay", lambda n: 0.0)
    link = then(server, clip, when, Reply(status, body=b"private video, removed, not a bot"))
    error = fails(link, out, settings=DownloadConfig(retries=int(when == "plain, later")))
    assert (error.error_class, isinstance(error, PermanentError)) == (kind, permanent)
    assert error.message.startswith(f"{link}: ")
    assert str(status) in error.message


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(reset=True), ErrorClass.NETWORK),
        (Reply(status=302, headers={"Location": "?"}), ErrorClass.NETWORK),  # to itself
    ],
)
@pytest.mark.parametrize("when", WHEN)
def test_broken_connections(
    server: Server,
    clip: Path,
    out: Path,
    reply: Reply,
    kind: ErrorClass,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dataminer.net.ytdlp_options.retry_delay", lambda n: 0.0)
    settings = DownloadConfig(retries=int(when == "plain, later"))
    error = fails(then(server, clip, when, reply), out, settings=settings)
    assert isinstance(error, TransientError)
    assert error.error_class is kind


@pytest.mark.parametrize("path", [PLAIN, LOOKED_AT])
def test_a_truncated_body(server: Server, clip: Path, out: Path, path: str) -> None:
    error = fails(server.add(path, broken(clip)), out)
    assert isinstance(error, TransientError)
    assert error.error_class is ErrorClass.NETWORK
    assert "expected" in error.message


def test_refused_and_unknown_hosts(out: Path) -> None:
    for url in (refused_url(), "http://no-such-host.invalid/clip.mp4"):
        error = fails(url, out)
        assert isinstance(error, TransientError)
        assert error.error_class is ErrorClass.NETWORK


@pytest.mark.parametrize("when", ["plain", "look", "after the look"])
def test_a_server_that_hangs(server: Server, clip: Path, out: Path, when: str) -> None:
    link = then(server, clip, when, Reply(delay=30))
    began = time.monotonic()
    error = fails(link, out, settings=DownloadConfig(retries=0, socket_timeout=0.5))
    assert isinstance(error, TransientError)
    assert error.error_class is ErrorClass.TIMEOUT
    assert time.monotonic() - began < 5


# --- what is no video --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (PAGE, "text/html", ErrorClass.UNSUPPORTED),
        (PAGE, "video/mp4", ErrorClass.UNSUPPORTED),
        (jpeg(), "image/jpeg", ErrorClass.NO_VIDEO),
        (jpeg(), "video/mp4", ErrorClass.NO_VIDEO),
        (b"", "video/mp4", ErrorClass.EMPTY),
        (b"\0" * 5000, "video/mp4", ErrorClass.CORRUPT),
        (b"just some text", "text/plain", ErrorClass.UNSUPPORTED),
    ],
)
def test_other_things_at_a_link(
    server: Server, out: Path, body: bytes, content_type: str, kind: ErrorClass
) -> None:
    error = fails(server.add("/thing.mp4", Reply(body=body, content_type=content_type)), out)
    assert isinstance(error, PermanentError)
    assert error.error_class is kind


JSON, SIZE = b'{"error": "not found"}', "(22 bytes)"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
ARCHIVE = b"PK\3\4\x14\0\0\0" + bytes(200)


@pytest.mark.parametrize(
    ("body", "content_type", "kind", "reported"),
    [
        (JSON, "application/json", "unsupported", f"application/json {SIZE} instead of a video"),
        (JSON, "Application/JSON; charset=utf-8", "unsupported", f"application/json {SIZE} in"),
        (JSON, "video/mp4", "unsupported", f"text {SIZE} instead of a video"),
        (JSON, "binary/octet-stream", "unsupported", f"text {SIZE} instead of a video"),
        (JSON, "", "unsupported", f"text {SIZE} instead of a video"),
        (JSON, "so it is", "unsupported", f"text {SIZE} instead of a video"),
        ("trouvé".encode("latin-1"), "text/plain", "unsupported", "text/plain (6 bytes) instead"),
        (POINTER, "text/plain", "unsupported", "text/plain (82 bytes) instead of a video"),
        (ARCHIVE, "application/zip", "corrupt", "application/zip (208 bytes): "),
        (ARCHIVE, "", "corrupt", "208 bytes: "),
        (jpeg()[:300], "image/jpeg", "no_video", "image/jpeg (300 bytes): "),
        (b"", "video/mp4", "empty", "an empty answer (0 bytes)"),
    ],
)
def test_what_came_in_place_of_a_video_is_told(
    server: Server, out: Path, body: bytes, content_type: str, kind: str, reported: str
) -> None:
    link = server.add("/thing.mp4", Reply(body=body, content_type=content_type))
    error = fails(link, out)
    assert (type(error), error.error_class) == (PermanentError, kind)
    assert f"{link}: the server sent {reported}" in error.message
    assert "file" not in error.hint
    assert ("dataminer retry --download VIDEO" in error.hint) == (kind != "no_video")
    assert "dataminer delete-videos VIDEO" in error.hint


def test_text_at_a_link_that_yt_dlp_looked_at_first(server: Server, out: Path) -> None:
    link = server.add("/thing", Reply(body=JSON, content_type="video/mp4"))
    error = fails(link, out)
    assert error.error_class is ErrorClass.UNSUPPORTED
    assert error.message == f"{link}: the server sent text {SIZE} instead of a video"


@pytest.mark.parametrize(
    ("body", "content_type"), [(PAGE, "text/html"), (DENIED, "application/xml")]
)
def test_markup_in_place_of_a_video(
    server: Server, out: Path, body: bytes, content_type: str
) -> None:
    link = server.add("/thing.mp4", Reply(body=body, content_type=f"{content_type}; charset=utf-8"))
    error = fails(link, out)
    assert (type(error), error.error_class) == (PermanentError, ErrorClass.UNSUPPORTED)
    assert (
        error.message == f"{link}: the server sent {content_type}, in which yt-dlp finds no video"
    )
    assert "dataminer retry --class unsupported" in error.hint


def test_no_content_in_place_of_a_video(server: Server, out: Path) -> None:
    error = fails(server.add("/thing.mp4", Reply(204)), out)
    assert (type(error), error.error_class) == (PermanentError, ErrorClass.EMPTY)
    assert "the server sent an empty answer" in error.message


def test_text_in_place_of_a_video_at_a_link_with_a_signature(server: Server, out: Path) -> None:
    link = server.add("/thing.mp4", Reply(body=JSON, content_type="application/json"))
    error = fails(f"{link}?X-Amz-Signature=abc&X-Amz-Expires=60", out)
    assert error.error_class is ErrorClass.UNSUPPORTED
    assert "add the link with a new one" in error.hint
    assert "abc" not in str(error)


def test_a_local_file_that_is_text(tmp_path: Path, out: Path) -> None:
    (tmp_path / "pointer.mp4").write_bytes(POINTER)
    error = fails(tmp_path / "pointer.mp4", out)
    assert error.error_class is ErrorClass.CORRUPT
    assert error.hint.startswith("replace the file")


@pytest.mark.parametrize("content_type", ["audio/mp4", "video/mp4"])
def test_sound_only(server: Server, sound: Path, out: Path, content_type: str) -> None:
    reply = Reply(body=sound.read_bytes(), content_type=content_type)
    error = fails(server.add("/sound.mp4", reply), out)
    assert isinstance(error, PermanentError)
    assert error.error_class is ErrorClass.NO_VIDEO


def test_a_page_with_one_video_gives_it(server: Server, clip: Path, out: Path) -> None:
    server.add("/clip.mp4", clip)
    page = b'<html><title>T</title><video src="/clip.mp4"></video></html>'
    assert fetch(server.add("/page", Reply(body=page)), out).video.name == f"{ID}.mp4"


def test_a_page_with_many_videos_is_refused(server: Server, clip: Path, out: Path) -> None:
    tags = "".join(f'<video src="/clip{i}.mp4"></video>' for i in range(5))
    for i in range(5):
        server.add(f"/clip{i}.mp4", clip)
    error = fails(server.add("/page", Reply(body=f"<html>{tags}</html>".encode())), out)
    assert isinstance(error, PermanentError)
    assert error.error_class is ErrorClass.UNSUPPORTED
    assert "a list of videos" in error.message


@pytest.mark.parametrize("count", [1, 3])
def test_a_feed_of_links_is_refused(server: Server, clip: Path, out: Path, count: int) -> None:
    items = "".join(f"<item><link>{server.url}/{i}.mp4</link></item>" for i in range(count))
    for i in range(count):
        server.add(f"/{i}.mp4", clip)
    feed = f'<rss version="2.0"><channel><title>T</title>{items}</channel></rss>'.encode()
    error = fails(server.add("/feed", Reply(body=feed, content_type="text/xml")), out)
    assert isinstance(error, PermanentError)
    assert error.error_class is ErrorClass.UNSUPPORTED
    assert server.requests["/0.mp4"] == 0


def test_a_playlist_that_leads_to_local_files_is_refused(
    server: Server, clip: Path, out: Path
) -> None:
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    reply = Reply(body=playlist.encode(), content_type="application/vnd.apple.mpegurl")
    assert isinstance(fails(server.add("/list.m3u8", reply), out), StageError)


def test_hls_without_ffmpeg(
    server: Server, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    part = make_video(tmp_path / "part.ts", container_format="mpegts")
    server.add("/part.ts", part)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart.ts\n#EXT-X-ENDLIST\n"
    reply = Reply(body=playlist, content_type="application/vnd.apple.mpegurl")
    result = fetch(server.add("/list.m3u8", reply), out)
    assert result.info["format"]["codec"] == "h264"
    assert names(out) == [f"{ID}.mp4", "info.json"]


# --- YouTube's place ---------------------------------------------------------------------------


@pytest.fixture
def youtube(server: Server) -> Iterator[Server]:
    with youtube_server.installed(server):
        yield server


def formats(server: Server, *made: tuple[str, int, int, str, str]) -> list[dict[str, Any]]:
    return [
        {
            "format_id": name,
            "width": width,
            "height": height,
            "vcodec": vcodec,
            "acodec": acodec,
            "ext": "mp4",
            "url": f"{server.url}/{name}.mp4",
        }
        for name, width, height, vcodec, acodec in made
    ]


LADDER = [
    ("sound", 0, 0, "none", "mp4a"),
    ("360-both", 640, 360, "avc1", "mp4a"),
    ("360-h264", 640, 360, "avc1", "none"),
    ("720-h264", 1280, 720, "avc1", "none"),
    ("1080-av1", 1920, 1080, "av01", "none"),
    ("1080-vp9", 1920, 1080, "vp9", "none"),
    ("1080-h264", 1920, 1080, "avc1", "none"),
    ("2160-vp9.2", 3840, 2160, "vp9.2", "none"),
    ("2160-av1", 3840, 2160, "av01", "none"),
    ("2160-vp9", 3840, 2160, "vp9", "none"),
]
TALL = [("tall-1080", 1080, 1920, "avc1", "none"), ("tall-480", 480, 854, "avc1", "none")]


@pytest.mark.parametrize(
    ("ladder", "max_height", "chosen"),
    [
        (LADDER, 1080, "1080-h264"),
        (LADDER, 1079, "720-h264"),
        (LADDER, 360, "360-h264"),
        (LADDER, 4320, "2160-vp9"),
        (LADDER, 144, "360-h264"),  # nothing so small: the smallest there is
        (TALL, 1080, "tall-1080"),  # lines are counted on the shorter side, as YouTube does
        (LADDER[:2], 1080, "360-both"),
    ],
)
def test_which_format_is_taken(
    youtube: Server,
    clip: Path,
    out: Path,
    ladder: list[tuple[str, int, int, str, str]],
    max_height: int,
    chosen: str,
) -> None:
    for name, *_ in LADDER + TALL:
        youtube.add(f"/{name}.mp4", clip)
    url = youtube_server.add_video(
        youtube, "aqz-KE-bpKQ", {"title": "T", "formats": formats(youtube, *ladder)}
    )
    settings = DownloadConfig(max_height=max_height, retries=0)
    result = download(url, out, "aqz-KE-bpKQ", settings)
    assert result.info["format"]["format_id"] == chosen
    assert youtube.requests[f"/{chosen}.mp4"] == 1
    assert sum(youtube.requests.values()) == 2  # the page and the one file


def test_what_a_site_says_is_kept_and_cleaned(youtube: Server, clip: Path, out: Path) -> None:
    youtube.add("/a.mp4", clip)
    url = youtube_server.add_video(
        youtube,
        "-dash_first",
        {
            "title": "../../%(id)s $(rm -rf) \x00\x1b[31m\n'; DROP TABLE\u202e" + "x" * 5000,
            "channel": "Someone",
            "license": "Creative Commons Attribution licence (reuse allowed)",
            "upload_date": "20240229",
            "formats": formats(youtube, ("a", 160, 120, "avc1", "none")),
        },
    )
    info = download(url, out, "-dash_first", QUICK).info
    assert names(out) == ["-dash_first.mp4", "info.json"]
    assert info["title"].startswith("../../%(id)s $(rm -rf) [31m'; DROP TABLExxx")
    assert len(info["title"]) == 1000
    assert (info["uploader"], info["upload_date"]) == ("Someone", "20240229")
    assert info["licence"].startswith("Creative Commons")
    assert (info["extractor"], info["url"]) == ("youtube", url)


@pytest.mark.parametrize(
    "ext",
    [
        "../../../tmp/evil",
        "%(title)s",
        "mp4\0",
        "-rf",
        "a" * 4096,
        "part",
        "json",
        "sh",
        "{x}",
        "é",
    ],
    ids=lambda ext: ext[:9].encode("unicode_escape").decode(),
)
def test_a_hostile_suffix_is_inert(youtube: Server, clip: Path, out: Path, ext: str) -> None:
    youtube.add("/a.mp4", clip)
    (made,) = formats(youtube, ("a", 160, 120, "avc1", "none"))
    info = {"title": "T", "id": "../../evil", "formats": [{**made, "ext": ext}]}
    url = youtube_server.add_video(youtube, "aqz-KE-bpKQ", info)
    outside = names(out.parent)
    try:
        video = fetch(url, out).video
    except StageError:
        assert names(out) == []
    else:
        assert names(out) == sorted([video.name, "info.json"])
        assert video.name in {f"{ID}.video", f"{ID}.sh"}
    assert names(out.parent) == outside


_TEXTS = st.text(min_size=1, max_size=40) | st.sampled_from(
    [
        "../../x",
        "-rf",
        "%(ext)s %(title)s",
        "$(touch evil)",
        "`id`",
        "a\0b",
        "~root",
        "x" * 4096,
        "';--",
    ]
)


@given(title=_TEXTS, uploader=_TEXTS, name=_TEXTS, format_id=_TEXTS)
@hypothesis.settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_that_a_stranger_writes_leads_anywhere(
    youtube: Server,
    clip: Path,
    tmp_path: Path,
    title: str,
    uploader: str,
    name: str,
    format_id: str,
) -> None:
    youtube.add("/a.mp4", clip)
    (made,) = formats(youtube, ("a", 160, 120, "avc1", "none"))
    info = {
        "id": name,
        "title": title,
        "uploader": uploader,
        "license": title,
        "webpage_url": f"{youtube.url}/{name}",
        "formats": [{**made, "format_id": format_id}],
    }
    out = tmp_path / "hostile"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before = names(tmp_path)
    url = youtube_server.add_video(youtube, "aqz-KE-bpKQ", info)
    reported = fetch(url, out).info
    assert names(out) == [f"{ID}.mp4", "info.json"]
    assert names(tmp_path) == before
    assert all(value.isprintable() for value in reported.values() if isinstance(value, str))


@pytest.mark.parametrize("protocol", ["rtmp", "file", "mms", "websocket_frag", "ftp"])
def test_only_http_is_spoken(youtube: Server, clip: Path, out: Path, protocol: str) -> None:
    (made,) = formats(youtube, ("a", 160, 120, "avc1", "none"))
    link = {"url": f"{protocol}://127.0.0.1{clip}", "protocol": protocol}
    info = {"title": "T", "formats": [{**made, **link}]}
    error = fails(youtube_server.add_video(youtube, "aqz-KE-bpKQ", info), out)
    assert isinstance(error, PermanentError)
    assert error.error_class is ErrorClass.UNSUPPORTED


@pytest.mark.parametrize(
    ("policy", "size", "kind", "bytes_came"),
    [
        ({"max_duration": 5}, {}, "unchecked", False),
        ({"blocked_titles": ["^T$"]}, {}, "policy", False),
        ({"max_size_mb": 0.001}, {"filesize": 2000}, "policy", False),
        ({"max_size_mb": 0.001}, {}, "policy", True),  # the server declares it
        ({"min_size_mb": 1}, {}, "policy", True),
    ],
)
def test_the_policy_costs_one_request_for_the_page(
    youtube: Server,
    clip: Path,
    out: Path,
    policy: dict[str, Any],
    size: dict[str, int],
    kind: str,
    bytes_came: bool,
) -> None:
    youtube.add("/a.mp4", clip)
    (made,) = formats(youtube, ("a", 160, 120, "avc1", "none"))
    info = {"title": "T", "formats": [{**made, **size}]}
    url = youtube_server.add_video(youtube, "aqz-KE-bpKQ", info)
    settings = DownloadConfig.model_validate({"retries": 0, "policy": policy})
    assert fails(url, out, settings=settings).error_class == kind
    assert youtube.requests == {"/watch": 1, **({"/a.mp4": 1} if bytes_came else {})}


@pytest.mark.parametrize("bound", ["min_size_mb", "max_size_mb"])
def test_a_size_that_nobody_declares_is_judged_while_it_comes(
    server: Server, tmp_path: Path, out: Path, bound: str
) -> None:
    part = make_video(tmp_path / "part.ts", container_format="mpegts")
    server.add("/part.ts", part)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart.ts\n#EXT-X-ENDLIST\n"
    reply = Reply(body=playlist, content_type="application/vnd.apple.mpegurl")
    size = part.stat().st_size / 1e6
    bounds = {"min_size_mb": size * 1.1, "max_size_mb": size * 0.9}
    settings = DownloadConfig.model_validate({"retries": 0, "policy": {bound: bounds[bound]}})
    error = fails(server.add("/list.m3u8", reply), out, settings=settings)
    assert error.error_class is ErrorClass.POLICY


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in fragments"])
def test_the_first_block_of_a_large_enough_file_is_not_taken_for_all_of_it(
    server: Server, tmp_path: Path, out: Path, declared: bool
) -> None:
    part = make_video(tmp_path / "part.ts", container_format="mpegts")
    link, size = server.add("/part.ts", part), part.stat().st_size
    if not declared:
        playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart.ts\n#EXT-X-ENDLIST\n"
        reply = Reply(body=playlist, content_type="application/vnd.apple.mpegurl")
        link = server.add("/list.m3u8", reply)
    policy = {"min_size_mb": size / 1e6, "max_size_mb": size / 1e6}
    # small blocks
    given = {"retries": 0, "min_bytes_per_second": 50, "policy": policy}
    result = fetch(link, out, settings=DownloadConfig.model_validate(given))
    assert result.video.read_bytes() == part.read_bytes()


def test_a_video_that_is_all_that_the_policy_asks_for_comes(
    youtube: Server, clip: Path, out: Path
) -> None:
    youtube.add("/a.mp4", clip)
    info = {
        "title": "A film of birds",
        "description": "#nature",
        "duration": 2,
        "channel": "Someone",
        "license": "Creative Commons Attribution licence (reuse allowed)",
        "formats": formats(youtube, ("a", 160, 120, "avc1", "none")),
    }
    policy = {
        "blocked_titles": ["forbidden"],
        "blocked_hashtags": ["spam"],
        "min_duration": 1,
        "max_duration": 3600,
        "min_size_mb": 0.001,
        "max_size_mb": 100,
        "licences": ["CC0", "creative commons*"],
    }
    settings = DownloadConfig.model_validate({"retries": 0, "policy": policy})
    url = youtube_server.add_video(youtube, "aqz-KE-bpKQ", info)
    assert fetch(url, out, settings=settings).video.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize(
    ("printed", "kind", "permanent"),
    [
        ("Private video. Sign in if you've been granted access", "private", True),
        ("Video unavailable. This video has been removed by the uploader", "removed", True),
        ("This video is no longer available because the account is closed", "removed", True),
        ("The uploader has not made this video available in your country", "geo", True),
        ("Join this channel to get access to members-only content", "members_only", True),
        ("Sign in to confirm your age. This video may be inappropriate", "age", True),
        ("Sign in to confirm you’re not a bot. Use --cookies-from-browser", "bot_check", False),
        (
            "Video unavailable. This content isn't available, try again later."
            " The current session has been rate-limited by YouTube",
            "rate_limit",
            False,
        ),
        ("This video is DRM protected", "drm", True),
        ("Premieres in 3 hours", "live", True),
        ("The page needs to be reloaded.", "internal", False),
        ("\x1b[0;31mSomething\x1b[0m new\nand unheard of", "internal", False),
    ],
)
def test_what_youtube_says(
    youtube: Server, out: Path, printed: str, kind: str, permanent: bool
) -> None:
    url = youtube_server.add_video(youtube, "aqz-KE-bpKQ", {"error": printed})
    error = fails(url, out)
    assert (error.error_class, isinstance(error, PermanentError)) == (kind, permanent)
    assert "--cookies" not in error.message
    assert "[" not in error.message


def test_youtube_without_a_video_stream_is_not_condemned(youtube: Server, out: Path) -> None:
    only_sound = formats(youtube, ("a", 0, 0, "none", "mp4a"))
    for answer in ({"error": "No video formats found!"}, {"title": "T", "formats": only_sound}):
        error = fails(youtube_server.add_video(youtube, "aqz-KE-bpKQ", answer), out)
        assert isinstance(error, TransientError)
        assert error.message.endswith("has no video stream")
        assert "JavaScript runtime" in error.hint


@pytest.mark.parametrize("live", [{"is_live": True}, {"live_status": "is_upcoming"}])
def test_live_streams_are_refused_before_they_are_fetched(
    youtube: Server, out: Path, live: dict[str, Any]
) -> None:
    info = {"title": "T", "formats": formats(youtube, ("a", 160, 120, "avc1", "none")), **live}
    error = fails(youtube_server.add_video(youtube, "aqz-KE-bpKQ", info), out)
    assert isinstance(error, PermanentError)
    assert error.error_class is ErrorClass.LIVE
    assert youtube.requests["/a.mp4"] == 0


# --- local files, but for what a process of its own shows: see tests/unit/test_local_files.py ---


def test_local_files_need_no_yt_dlp_and_give_the_same_info(clip: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from dataminer.stages.download.stage import download;"
        "from dataminer.config.models import DownloadConfig;"
        f"download(sys.argv[1], Path(sys.argv[2]), {ID!r}, DownloadConfig());"
        "assert not [m for m in sys.modules if m.startswith('yt_dlp')]"
    )
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", code, clip, tmp_path / name], check=True)
        written.append((tmp_path / name / "info.json").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("frames", [2, 400], ids=["within a buffer", "many writes"])
def test_a_full_disk_while_downloading(
    server: Server, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    from yt_dlp.downloader.http import HttpFD

    opened = []

    def full(self: Any, name: str, mode: str) -> tuple[Any, str]:
        opened.append(open("/dev/full", "wb"))  # noqa: SIM115 - the kernel's own ENOSPC
        return opened[-1], name

    monkeypatch.setattr(HttpFD, "sanitize_open", full)
    link = server.add("/clip.mp4", make_video(tmp_path / "c.mp4", frames=frames))
    error = fails(link, out)
    for file in opened:
        with suppress(OSError):
            file.close()
    assert isinstance(error, TransientError)
    assert error.error_class is ErrorClass.DISK_FULL


def test_an_interruption_leaves_nothing(
    server: Server, clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        assert any(name.startswith(ID) for name in names(out))
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "make_info", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.add("/clip.mp4", clip), out)
    assert names(out) == []
