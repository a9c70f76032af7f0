"""What is left of transfers that broke off, if others have put something else in its place."""

from __future__ import annotations

from pathlib import Path

from dataminer.stages.download.partial import PartialDownload, RemoteVersion

VERSION = RemoteVersion('"etag"', None, 100)


def left(parent: Path) -> Path:
    """Leave half a file, as an attempt does."""
    kept = PartialDownload.take_over(parent, "v")
    kept.restart("v.mp4", "https://x.test/v", VERSION)
    part = kept.folder / "v.mp4.part"
    part.write_bytes(b"half")
    return part


def test_half_a_file_is_gone_on_with(tmp_path: Path) -> None:
    left(tmp_path)
    kept = PartialDownload.take_over(tmp_path, "v")
    assert kept.bytes == 4
    assert kept.begin("v.mp4", "https://x.test/v") == VERSION


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    part = left(tmp_path)
    part.unlink()
    part.symlink_to(outside)
    kept = PartialDownload.take_over(tmp_path, "v")
    assert kept.begin("v.mp4", "https://x.test/v") is None
    assert not (kept.folder / "v.mp4.part").is_symlink()
    assert outside.read_bytes() == b"mine"


def test_a_linked_folder_is_not_emptied(tmp_path: Path) -> None:
    folder = left(tmp_path).parent
    outside = tmp_path / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)
    kept = PartialDownload.take_over(tmp_path, "v")
    assert kept.begin("v.mp4", "https://x.test/other") is None
    assert (outside / "v.mp4.part").read_bytes() == b"half"


def test_a_note_of_something_else_is_none(tmp_path: Path) -> None:
    for text in ("[]", '{"size": "x"}', '{"etag": 5}', "", "null"):
        folder = left(tmp_path).parent
        (folder / ".state.json").write_text(text)
        kept = PartialDownload.take_over(tmp_path, "v")
        assert kept.begin("v.mp4", "https://x.test/v") is None
        kept.remove()
