"""Files and answers of strangers that declare more than anybody has room for."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dataminer.config.models import DownloadConfig, ExtractConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.net import ytdlp_limits
from dataminer.stages.extract.stage import extract
from dataminer.sync.batches.partition import estimate, estimate_download
from dataminer.video.info import probe
from dataminer.video.limits import FileLimits
from tests.support import hostile_files as hostile
from tests.support import videos
from tests.support.downloads import fails, fetch
from tests.support.http_server import Reply, Server, serve

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

# by rules/download.smk and rules/extract.smk; Slurm counts in units of 2**20
DOWNLOAD_MB, EXTRACT_MB = 500, 1200
# each in a process of its own, forked from one that has loaded what a worker has
MEASURE = r"""
import json, os, re, resource, sys, tempfile, traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import cv2
import dataminer.sync.jobs.download, dataminer.net.ytdlp_client
from dataminer.config.models import DownloadConfig, ExtractConfig
from dataminer.errors import StageError
from dataminer.stages.download.stage import download
from dataminer.stages.extract.stage import extract
from dataminer.video.info import probe
from dataminer.video.limits import FileLimits

def peak():
    # not getrusage, which counts what the parent had when it started this process
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def measured(work):
    reading, writing = os.pipe()
    if not os.fork():
        Path("/proc/self/clear_refs").write_text("5")  # its parent's peak
        error = ["", ""]
        try:
            try:
                work(Path(tempfile.mkdtemp(dir=sys.argv[1])))
            except StageError as caught:
                error = [caught.error_class, str(caught)]
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
            os.write(writing, json.dumps([peak(), *error]).encode())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(writing)
    with open(reading) as result:
        return json.loads(result.read())

def all_at_once(videos):
    settings = DownloadConfig()

    def fetch(video):
        try:
            download(str(video), Path(tempfile.mkdtemp(dir=sys.argv[1])), "v", settings)
        except StageError:
            pass

    with ThreadPoolExecutor(settings.concurrent_downloads) as pool:
        list(pool.map(fetch, videos))

videos = list(map(Path, sys.argv[2:]))
print(json.dumps(["all at once", measured(lambda out: all_at_once(videos))]), flush=True)
for video in videos:
    # a process that has freed memory may take that again, which no limit counts
    stages = [
        lambda out: download(str(video), out, "v", DownloadConfig()),
        lambda out: extract(video, out, "v", ExtractConfig(), threads=2),
    ]
    if video.stem == "edits":  # of its millions of packets each is looked at
        del stages[1]
    if video.stem in ("runs", "many"):
        stages[1] = lambda out: probe(video, FileLimits("extract", 40, 16))
    print(json.dumps([video.name, *map(measured, stages)]), flush=True)
"""


MANY: dict[str, dict[str, int]] = {"runs": {"runs": 3_000_000}, "many": {"samples": 600_000}}


class Ended(NamedTuple):
    """The peak of memory in MB, and an error's class and text, or none."""

    peak: float
    error_class: str
    error: str


def written(folder: Path) -> None:
    """Write all hostile files."""
    png = hostile.png()
    hostile.muxed(folder / "true.mov", "png", png, (hostile.SIDE, hostile.SIDE))
    hostile.muxed(folder / "wide.mov", "png", hostile.png(6240), (6240, 6240), frames=2)
    hostile.muxed(folder / "lies.mov", "png", png)
    hostile.muxed(folder / "lies.avi", "png", png)
    hostile.muxed(folder / "lies.mkv", "mjpeg", hostile.jpeg())
    hostile.attachments(folder / "attachments.mkv", 2, 70)
    hostile.attachments(folder / "covers.mkv", 2, 70, cover=True)
    for name, data in {
        "picture.png": png,
        "picture.jpg": hostile.jpeg(),
        "picture.webp": hostile.webp(),
        "picture.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="16000" height="16000"/>',
        "moving.gif": hostile.gif(),
        "moving.apng": hostile.png(moving=True),
        "tracks.mkv": hostile.matroska(10_000),
        "samples.mp4": hostile.quicktime(170_000_000),
        "edits.mp4": hostile.quicktime(10_000, edits=2_500),
        **{f"{name}.mp4": hostile.quicktime(**many) for name, many in MANY.items()},
    }.items():
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Ended]]:
    folder, outs = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("outs")
    written(folder)
    command = [sys.executable, "-c", MEASURE, str(outs), *map(str, sorted(folder.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = map(json.loads, done.stdout.splitlines())
    return {name: [Ended(*each) for each in stages] for name, *stages in lines}


def test_each_stage_keeps_to_its_memory_whatever_a_worker_does_beside(
    ended: dict[str, list[Ended]],
) -> None:
    for name, stages in ended.items():
        for stage, most in zip(stages, (DOWNLOAD_MB, EXTRACT_MB), strict=False):
            assert stage.peak < most, name
    # had they been read, it would have been more
    assert ended["edits.mp4"][0].peak > 250


@pytest.mark.parametrize("name", ["true.mov", "lies.mov", "lies.avi", "moving.gif", "moving.apng"])
def test_large_pictures_are_refused_whatever_the_header_says(
    name: str, ended: dict[str, list[Ended]]
) -> None:
    downloaded, extracted = ended[name]
    assert downloaded.error_class == ErrorClass.UNSUPPORTED
    assert "256 megapixels, more than download.max_megapixels = 100." in downloaded.error
    assert "raise download.max_megapixels" in downloaded.error
    assert extracted.error_class in {ErrorClass.UNSUPPORTED, ErrorClass.NO_FRAMES}


def test_a_size_that_libav_refuses_to_take_up_is_told(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.avi", frames=3, codec="mjpeg", pix_fmt="yuvj420p")
    (tmp_path / "out").mkdir()
    with pytest.raises(PermanentError, match=r"0\.0192 megapixels, more than extract\."):
        extract(video, tmp_path / "out", "v", ExtractConfig(max_megapixels=0.01))


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "svg"])
def test_pictures_are_no_videos(name: str, ended: dict[str, list[Ended]]) -> None:
    assert {stage.error_class for stage in ended[f"picture.{name}"]} == {ErrorClass.NO_VIDEO}


def test_files_of_thousands_of_streams_are_refused(ended: dict[str, list[Ended]]) -> None:
    for stage in ended["tracks.mkv"]:
        assert stage.error_class == ErrorClass.UNSUPPORTED
        assert "more than 256 streams. Next: copy its video stream" in stage.error


def test_what_is_attached_is_left_out_or_refused(ended: dict[str, list[Ended]]) -> None:
    for name in ("attachments.mkv", "covers.mkv"):
        for stage in ended[name]:
            assert not stage.error or "max_memory_mb" in stage.error


@pytest.mark.parametrize("name", MANY)
def test_a_file_that_takes_too_much_is_refused(name: str, ended: dict[str, list[Ended]]) -> None:
    _, extracted = ended[f"{name}.mp4"]
    assert extracted.error_class == ErrorClass.UNSUPPORTED
    assert "more MB of memory than extract.max_memory_mb = 16." in extracted.error
    assert "raise extract.max_memory_mb and mem_mb of rule extract" in extracted.error


@pytest.mark.parametrize("name", MANY)
def test_a_large_index_that_has_room_is_read(name: str, tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(hostile.quicktime(**MANY[name]))
    assert probe(video, FileLimits("extract", 40, 256)).declared_frames


def test_a_size_that_is_declared_is_held_against_the_limit_of_the_stage(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4", frames=3)
    with pytest.raises(PermanentError, match=r"0\.0192 megapixels, more than extract\."):
        probe(video, FileLimits("extract", 0.01))
    assert probe(video, FileLimits("extract", 0.02)).width == videos.WIDTH


def test_12k_passes() -> None:
    assert DownloadConfig().max_megapixels > 12_288 * 6_144 / 1e6


@pytest.mark.parametrize("seconds", [1e12, -1.0, float("nan"), float("inf")])
def test_centuries_are_no_duration(seconds: float, tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(hostile.matroska(seconds=seconds))
    assert probe(tmp_path / "a.mkv").duration is None
    for guess in (estimate, lambda length: estimate_download(length, 1)):
        assert 0 < guess(seconds) <= guess(48 * 3600)


def test_a_million_frames_a_second(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(hostile.quicktime(scale=1_000_000))
    assert probe(tmp_path / "a.mp4").average_rate == 1e6
    (tmp_path / "b.mp4").write_bytes(hostile.quicktime(scale=1, lasting=0x7FFFFFFF))
    assert probe(tmp_path / "b.mp4").duration is None


# --- pictures in a store, which others may write into too


READ = r"""
import re, sys
from pathlib import Path
from dataminer.frames.image_decoding import check_declared_pixels, decode_image
from dataminer.formats import contact_sheet
for path in map(Path, sys.argv[1:]):
    for read in (decode_image, lambda data: check_declared_pixels(data, 160 * 120)):
        try:
            read(path.read_bytes())
        except ValueError:
            pass
        else:
            raise SystemExit(f"{path} was read")
    page = contact_sheet._Page([], {}, {}, "")
    image = {"file_name": path.name, "id": 1, "width": 160, "height": 120}
    contact_sheet._cell(path.parent, image, page)
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def test_large_pictures_of_a_store_are_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(hostile.png())
    (tmp_path / "a.jpg").write_bytes(hostile.jpeg())
    (tmp_path / "a.webp").write_bytes(hostile.webp())
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", READ, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200


# --- answers ---------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def too_large(url: str, out: Path) -> None:
    out.mkdir()
    error = fails(url, out)
    assert isinstance(error, PermanentError)
    assert error.error_class is ErrorClass.UNSUPPORTED
    assert "more than" in error.message
    assert "link of the video file" in error.hint


def test_endless_pages_and_lists_are_not_read(server: Server, tmp_path: Path) -> None:
    page = b"<!doctype html>" + bytes(ytdlp_limits.MOST_PAGE)
    lines = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + b"a\n" * 600_000 + b"#EXT-X-ENDLIST"
    too_large(server.add("/page", Reply(body=page)), tmp_path / "page")
    too_large(server.add("/page.mp4", Reply(body=page)), tmp_path / "plain")
    mpegurl = "application/vnd.apple.mpegurl"
    too_large(server.add("/list.m3u8", Reply(body=lines, content_type=mpegurl)), tmp_path / "list")
    # the same, of which another one tells
    of_lists = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n"
    main = Reply(body=of_lists, content_type=mpegurl)
    too_large(server.add("/main.m3u8", main), tmp_path / "main")


def test_a_line_that_stands_for_a_billion_parts_is_refused(server: Server, tmp_path: Path) -> None:
    manifest = b"""<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1H"><Period>
<AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$Number$.m4s" timescale="1">
<SegmentTimeline><S t="0" d="1" r="1000000000"/></SegmentTimeline></SegmentTemplate>
<Representation id="1" width="160" height="120" bandwidth="1"/></AdaptationSet></Period></MPD>"""
    reply = Reply(body=manifest, content_type="application/dash+xml")
    too_large(server.add("/list.mpd", reply), tmp_path / "out")


@pytest.mark.parametrize("path", ["/page", "/page.mp4"])
@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
def test_what_unpacks_to_gigabytes_is_not_unpacked(
    coding: str, wbits: int, path: str, server: Server, tmp_path: Path
) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    body = packer.compress(b"<!doctype html>" + bytes(2 * ytdlp_limits.MOST_PAGE)) + packer.flush()
    reply = Reply(body=body, headers={"Content-Encoding": coding})
    too_large(server.add(path, reply), tmp_path / "out")


def test_packed_pages_are_read(server: Server, tmp_path: Path) -> None:
    clip = videos.make_video(tmp_path / "clip.mp4", frames=3)
    server.add("/clip.mp4", clip)
    page = b'<html><title>T</title><video src="/clip.mp4"></video></html>'
    for name, body in {"gzip": gzip.compress(page), "deflate": zlib.compress(page)}.items():
        (tmp_path / name).mkdir()
        reply = Reply(body=body, headers={"Content-Encoding": name})
        fetch(server.add(f"/{name}", reply), tmp_path / name)


def test_parts_of_a_stream_have_an_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ytdlp_limits, "MOST_PART", 1 << 20)
    server.add("/part.ts", Reply(body=bytes(2 << 20), content_type="video/mp2t"))
    body = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart.ts\n#EXT-X-ENDLIST\n"
    reply = Reply(body=body, content_type="application/vnd.apple.mpegurl")
    too_large(server.add("/list.m3u8", reply), tmp_path / "out")
