"""The video that ``info.json`` names, which others may have written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataminer.store.layout import INFO_FILE
from dataminer.sync.jobs.results import read_download

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
def test_is_not_there_if_its_name_leads_elsewhere(tmp_path: Path, name: object) -> None:
    (tmp_path / "x.mp4").write_bytes(b"1234")
    name = name.format(root=tmp_path) if isinstance(name, str) else name
    folder = folder_with(tmp_path, name)
    assert read_download(folder) is None


def test_is_not_there_if_a_link_is_in_its_place(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, f"{ID}.mp4")
    (folder / f"{ID}.mp4").write_bytes(b"1234")
    assert read_download(folder)
    (folder / f"{ID}.mp4").rename(tmp_path / "x.mp4")
    (folder / f"{ID}.mp4").symlink_to(tmp_path / "x.mp4")
    assert read_download(folder) is None
