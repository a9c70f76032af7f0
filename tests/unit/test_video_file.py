"""The video that ``info.json`` names, which others may have written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataminer.store import INFO_FILE
from dataminer.sync.results import read_download, video_file

ID = "clip-0123456789"


def folder_with(root: Path, video: object) -> Path:
    """Make a video's folder whose info.json names a file of four bytes."""
    folder = root / "store" / "videos" / ID
    folder.mkdir(parents=True)
    (folder / INFO_FILE).write_text(json.dumps({"video": video, "size_bytes": 4}))
    return folder


@pytest.mark.parametrize(
    "name", ["../../../x.mp4", "/x.mp4", "{root}/x.mp4", "..", ".", "", None, 5]
)
def test_lies_beside_it_whatever_is_written_there(tmp_path: Path, name: object) -> None:
    (tmp_path / "x.mp4").write_bytes(b"1234")
    name = name.format(root=tmp_path) if isinstance(name, str) else name
    folder = folder_with(tmp_path, name)
    assert video_file(folder, {"video": name}) != tmp_path / "x.mp4"
    assert read_download(folder) is None


def test_is_not_there_if_a_link_is_in_its_place(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, f"{ID}.mp4")
    (folder / f"{ID}.mp4").write_bytes(b"1234")
    assert read_download(folder)
    (folder / f"{ID}.mp4").rename(tmp_path / "x.mp4")
    (folder / f"{ID}.mp4").symlink_to(tmp_path / "x.mp4")
    assert read_download(folder) is None
