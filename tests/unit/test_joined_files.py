"""Files that were joined byte after byte: what is not read of them is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from dataminer.config.models import ExtractConfig
from dataminer.frames.table import FRAMES_FILE, read_meta
from dataminer.stages.extract.stage import extract
from dataminer.video.joined_files import count_unread_files
from tests.support.lossy import make_moving

X264 = {"preset": "veryfast", "x264-params": "bframes=2:scenecut=0"}
FILES: dict[str, dict[str, Any]] = {
    "a.mp4": {"options": X264},
    "a.mov": {"codec": "mpeg4"},
    "a.flv": {"codec": "flv"},
    "b.flv": {"options": X264},
    "a.wmv": {"codec": "wmv2"},
    "a.ivf": {"codec": "libvpx"},
    "a.mkv": {"options": X264},
    "a.webm": {"codec": "libvpx"},
}
READ = {".mkv", ".webm"}  # of which libav reads the first two parts


def extracted(video: Path) -> dict[str, Any]:
    out = video.parent / f"out{len(list(video.parent.iterdir()))}"
    out.mkdir()
    settings = ExtractConfig(strategy="interval", every_frames=1)
    result = extract(video, out, "v", settings)
    return {**read_meta(out / FRAMES_FILE), "count": result.frame_count}


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("name", FILES)
def test_joined_files_are_read_or_counted(name: str, parts: int, tmp_path: Path) -> None:
    whole = make_moving(tmp_path / name, frames=30, gop=15, **FILES[name])
    assert extracted(whole)["notes"] == {}
    joined = tmp_path / f"joined{whole.suffix}"
    joined.write_bytes(whole.read_bytes() * parts)
    meta = extracted(joined)
    if whole.suffix in READ:
        unread = meta["notes"].get("unread_files", 0)
        assert meta["count"] + 30 * unread == 30 * parts
        assert meta["notes"]["joined_parts"] == parts - 1 - unread
    else:
        assert meta["count"] == 30
        assert meta["notes"]["unread_files"] == parts - 1
        assert "joined" in meta["warning"]


def test_fragments_behind_a_repeated_header_are_read(tmp_path: Path) -> None:
    whole = make_moving(tmp_path / "a.mp4", frames=60, gop=15, options={"bf": "0"})
    fragments = tmp_path / "b.mp4"
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(whole)) as source, av.open(str(fragments), "w", options=options) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    data = fragments.read_bytes()
    header, middle = data[: data.index(b"moof") - 4], data.rindex(b"moof") - 4
    path = tmp_path / "c.mp4"
    path.write_bytes(data[:middle] + header + data[middle:])
    meta = extracted(path)
    assert (meta["count"], meta["notes"]) == (60, {})
    twice = tmp_path / "d.mp4"
    twice.write_bytes(data * 2)
    meta = extracted(twice)
    assert meta["count"] == 120 or meta["notes"]["unread_files"] == 1


def test_beginnings_are_found_across_blocks(tmp_path: Path) -> None:
    sign, path = b"FLV\x01\x05\0\0\0\x09\0\0\0\0", tmp_path / "a.flv"
    path.write_bytes(sign + bytes((1 << 20) - 5) + sign + bytes(100) + sign)
    assert count_unread_files(path, "flv", 13, 1) == 2
    assert count_unread_files(path, "flv", 0, 1) == 0  # it is not known what was read
