"""Files that are no videos but name others, which libav would open while it reads their header."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.stages.download.stage import download
from dataminer.video.info import probe
from tests.support.http_server import serve
from tests.support.opened import openings
from tests.support.videos import make_video

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux", reason="other systems do not tell who opens a file"
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ID = "clip-0123456789"


def hls(named: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{named}\n#EXT-X-ENDLIST\n"


TEXTS: dict[str, Callable[[str], str]] = {
    "HLS": hls,
    "HLS, one of several": lambda named: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{named}\n",
    "HLS, header": lambda named: f'#EXTM3U\n#EXT-X-MAP:URI="{named}"\n{hls("a.ts")}',
    "HLS, key": lambda named: f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{named}"\n{hls("a.ts")}',
    "concat": lambda named: f"ffconcat version 1.0\nfile '{named}'\n",
    "DASH": lambda named: (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' mediaPresentationDuration="PT2S"><Period><AdaptationSet><Representation id="1"'
        f' mimeType="video/mp4" bandwidth="9"><BaseURL>{named}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ),
    "SDP": lambda named: (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={named}\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    "subtitles of a DVD": lambda named: "# VobSub index file, v7\nid: en, index: 0\n",
}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the file that must not be opened."""
    folder = tmp_path_factory.mktemp("named")
    return make_video(folder / "a.ts", container_format="mpegts")


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("spelling", ["file://{}", "{}", "{.name}", "file:{.name}"])
def test_what_a_file_names_is_not_opened(
    named: Path, tmp_path: Path, kind: str, spelling: str
) -> None:
    target = named.with_suffix(".sub") if "DVD" in kind else named
    if not target.exists():
        target.hardlink_to(named)
    text = TEXTS[kind](spelling.format(target))
    for suffix in (".m3u8", ".mpd", ".ffconcat", ".sdp", ".mp4", ".idx"):
        source = named.with_name(f"a{suffix}")
        source.write_text(text)
        with openings(target) as opened, pytest.raises(PermanentError) as caught:
            download(str(source), tmp_path, ID, DownloadConfig())
        assert opened == []
        assert list(tmp_path.iterdir()) == []
        source.unlink()
    assert caught.value.error_class in {ErrorClass.NO_VIDEO, ErrorClass.CORRUPT}


@pytest.mark.parametrize("kind", TEXTS)
def test_no_server_that_a_file_names_is_asked(named: Path, tmp_path: Path, kind: str) -> None:
    with serve() as server:
        (tmp_path / "list.mp4").write_text(TEXTS[kind](server.add("/inner.ts", named)))
        with pytest.raises(PermanentError, match=r"list\.mp4"):
            probe(tmp_path / "list.mp4")
        assert server.log == []


def test_a_playlist_is_called_one(named: Path, tmp_path: Path) -> None:
    (tmp_path / "a.m3u8").write_text(hls(named.name))
    with pytest.raises(PermanentError, match="playlist") as caught:
        probe(tmp_path / "a.m3u8")
    assert caught.value.error_class is ErrorClass.NO_VIDEO
