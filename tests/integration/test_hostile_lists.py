"""Lists of parts and formats that expand to more than any machine can hold."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dataminer.errors import ErrorClass
from dataminer.memory import within_memory
from tests.support.downloads import fetch
from tests.support.http_server import Reply, serve
from tests.support.videos import make_video

DOWNLOAD_MB = 500  # by rules/download.smk
# all in one process that has loaded what a worker has
MEASURE = r"""
import json, re, sys, tempfile
from pathlib import Path
import cv2
import dataminer.sync.jobs.download, yt_dlp.extractor.extractors
from dataminer.config.models import DownloadConfig
from dataminer.errors import StageError
from dataminer.net import ytdlp_limits
from dataminer.stages.download.stage import download

for number, link in enumerate(sys.argv[2:]):
    if number == 1:  # it was reached once, which takes seconds
        ytdlp_limits._MOST_LISTED = 40
    try:
        download(link, Path(tempfile.mkdtemp(dir=sys.argv[1])), "v", DownloadConfig(retries=0))
        error = ["", ""]
    except StageError as caught:
        error = [caught.error_class, caught.message]
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
    print(json.dumps([int(peak) / 1024, *error]), flush=True)
"""
TOO_LARGE = "a list that is too large"
DASH, SMOOTH = "application/dash+xml", "application/vnd.ms-sstr+xml"
FLASH, HLS = "application/f4m+xml", "application/vnd.apple.mpegurl"
TIMELINE = (
    '<SegmentTemplate media="$Number$"><SegmentTimeline><S t="0" d="{}" r="{}"/>'
    "</SegmentTimeline></SegmentTemplate>"
)


def dash(*representations: str, period: str = "", head: str = "") -> bytes:
    listed = "".join(
        f'<Representation id="{number}" bandwidth="{number}" codecs="avc1">{each}</Representation>'
        for number, each in enumerate(representations)
    )
    return (
        f'<?xml version="1.0"?>{head}<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>{period}'
        f'<AdaptationSet mimeType="video/mp4">{listed}</AdaptationSet></Period></MPD>'
    ).encode()


def smooth(url: str, bitrate: str, repeated: int) -> bytes:
    return (
        f'<SmoothStreamingMedia Duration="4"><StreamIndex Type="video" Url="{url}"><QualityLevel '
        f'Bitrate="{bitrate}" FourCC="H264"/><c t="0" d="1" r="{repeated}"/></StreamIndex>'
        "</SmoothStreamingMedia>"
    ).encode()


def hls(lines: str, tag: str = "#EXT-X-TARGETDURATION:1") -> bytes:
    return f"#EXTM3U\n{tag}\n{lines}\n#EXT-X-ENDLIST\n".encode()


def keys(count: int, attributes: int) -> str:
    line = ",".join(f"A{number:X}=1" for number in range(attributes))
    return f"#EXT-X-KEY:METHOD=NONE,{line}\na\n" * count


MEDIA = "<media url='{}'/>"
FLASH_LIST = "<manifest xmlns='http://ns.adobe.com/f4m/1.0'>{}</manifest>"
TRACKS = "<playlist xmlns='http://xspf.org/ns/0/'><trackList>{}</trackList></playlist>"


def lists() -> dict[str, tuple[str, bytes]]:
    """Return lists that are all too large, each in its own way."""
    streams = "".join(f"<video src='{n}.x' proto='rtmp'/>" for n in range(300_000))
    return {
        "dash, digits in disguise": (DASH, dash(TIMELINE.format(1, "&#51;000000"))),
        "dash, as long as another": (
            DASH,
            dash(TIMELINE.format(9_000_000, 0), '<SegmentTemplate duration="1" media="$Number$"/>'),
        ),
        "dash, one timeline for many": (
            DASH,
            dash(*[""] * 1_900, period=TIMELINE.format(1, 2_000)),
        ),
        "dash, wide numbers": (
            DASH,
            dash(TIMELINE.format(1, 0).replace("$Number$", "$Number%0900000000d$")),
        ),
        "dash, many formats": (DASH, dash(*[""] * 2_500)),
        "smooth": (SMOOTH, smooth("{start time}", "9", 3_000_000)),
        "smooth, long links": (SMOOTH, smooth("{bitrate}" * 300_000, "9" * 4_000, 1)),
        "hls, other ends of lines": (HLS, hls("a\r" * 5_000_000)),
        "hls, rare ends of lines": (HLS, hls("a\u2028" * 3_500_000)),
        "hls, keys": (HLS, hls(keys(1_400, 1_000))),
        "hls, many formats": (HLS, hls("a\r" * 5_000, "")),
        "smil": (
            "application/smil",
            f"<smil>{streams}</smil>".encode(),
        ),
        "elements": ("text/xml", f"<a>{'<a/>' * 3_000_000}</a>".encode()),
        "attributes": (
            "text/xml",
            f'<!DOCTYPE a [<!ENTITY a "{"x" * 8_000_000}">]><a b="{"&a;" * 90}"/>'.encode(),
        ),
    }


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, str, str]]:
    names = list(hostile := lists())
    with serve() as server:
        links = [
            server.add(f"/{number}", Reply(body=body, content_type=kind))
            for number, (kind, body) in enumerate(hostile.values())
        ]
        nested = FLASH_LIST.format(MEDIA.format(f"{server.url}/v.f4m") + "z" * (10 << 20))
        for path in ("/v.f4m", "/v"):
            link = server.add(path, Reply(body=nested.encode(), content_type=FLASH))
        outs = str(tmp_path_factory.mktemp("outs"))
        command = [sys.executable, "-c", MEASURE, outs, *links, link]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert server.requests["/v"] == 1
        assert server.requests["/v.f4m"] == 0
    return dict(zip([*names, "nested"], map(json.loads, done.stdout.splitlines()), strict=True))


def test_lists_stay_within_the_memory_of_download_however_they_say_it(
    ended: dict[str, tuple[float, str, str]],
) -> None:
    for name, (peak, error_class, error) in ended.items():
        assert peak < DOWNLOAD_MB, name
        assert error_class == ErrorClass.UNSUPPORTED, name
        assert ("only over f4m" if name == "nested" else TOO_LARGE) in error, name


def test_ordinary_lists_are_read(tmp_path: Path) -> None:
    part = make_video(tmp_path / "part.ts", container_format="mpegts")
    (out := tmp_path / "out").mkdir()
    with serve() as server:
        server.add("/1", part)
        manifest = dash(TIMELINE.format(1, 0), head="<!DOCTYPE MPD>")
        fetch(server.add("/list", Reply(body=manifest, content_type=DASH)), out)
        assert server.requests["/1"] == 1


def test_a_limit_on_memory_ends_with_what_it_is_for() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def grow() -> None:
        found: list[object] = []
        while True:
            found.append([found])

    for _ in range(3):
        with pytest.raises(MemoryError):
            within_memory(16, within_memory, 8, grow)
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert within_memory(16, bytearray, 1 << 20) == bytearray(1 << 20)
