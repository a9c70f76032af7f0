"""Downloads from the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.files import copying
from dataminer.stages.download import stage
from dataminer.stages.download.stage import download
from tests.support.downloads import ID, PAGE, QUICK, fails, fetch, names
from tests.support.videos import audio_only, jpeg, make_video


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


@pytest.mark.parametrize("video_id", ["", "../x", "a/b", "%(title)s", "a b", "a\n", "a.b", "é"])
def test_a_hostile_id_is_refused(out: Path, clip: Path, video_id: str) -> None:
    with pytest.raises(ValueError, match="not a video_id"):
        download(str(clip), out, video_id, QUICK)


def test_a_local_file_is_linked(clip: Path, out: Path) -> None:
    result = fetch(clip, out, meta={"title": "Mine"})
    assert result.video == out / f"{ID}.mp4"
    assert result.info["linked"] in {"reflink", "hardlink"}
    if result.info["linked"] == "hardlink":
        assert os.path.samefile(clip, result.video)
    assert result.info["url"] == str(clip)
    assert (result.info["title"], result.info["extractor"]) == ("Mine", "local")
    assert result.info["yt_dlp_version"] is None
    assert result.info["format"]["format_id"] is None


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("A.MP4", ".mp4"),
        ("a.mkv", ".mkv"),
        ("a", ".video"),
        ("a.mp4.part", ".video"),
        ("info.json", ".video"),
        ("a.%(ext)s", ".video"),
        ("a.verylong", ".video"),
        ("-rf.mp4", ".mp4"),
        ("a b\n.m p4", ".video"),
    ],
)
def test_suffixes(clip: Path, out: Path, tmp_path: Path, name: str, suffix: str) -> None:
    source = tmp_path / name
    os.link(clip, source)
    assert fetch(source, out).video.name == f"{ID}{suffix}"


def test_a_symbolic_link_is_followed(clip: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(clip)
    result = fetch(tmp_path / "link.mp4", out)
    assert not result.video.is_symlink()
    assert result.video.read_bytes() == clip.read_bytes()


def test_another_file_system_gets_a_copy(
    clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(copying, "_reflink", lambda *_: False)
    monkeypatch.setattr(os, "link", refuse)
    result = fetch(clip, out)
    assert result.info["linked"] == "copy"
    assert not os.path.samefile(clip, result.video)


def test_local_things_that_are_no_video(sound: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "page.mp4").write_bytes(PAGE)
    (tmp_path / "photo.mp4").write_bytes(jpeg())
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, kind in [
        ("gone.mp4", ErrorClass.MISSING_SOURCE),
        ("", ErrorClass.MISSING_SOURCE),
        ("pipe.mp4", ErrorClass.MISSING_SOURCE),
        ("empty.mp4", ErrorClass.EMPTY),
        ("page.mp4", ErrorClass.CORRUPT),
        ("photo.mp4", ErrorClass.NO_VIDEO),
        (str(sound), ErrorClass.NO_VIDEO),
    ]:
        error = fails(tmp_path / name, out)
        assert isinstance(error, PermanentError)
        assert error.error_class is kind, name
    assert (tmp_path / "empty.mp4").exists()
    assert sound.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x.mp4", "rtmp://h/x"])
def test_other_schemes(out: Path, url: str) -> None:
    error = fails(url, out)
    assert isinstance(error, PermanentError)
    assert error.error_class is ErrorClass.UNSUPPORTED


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ErrorClass.DISK_FULL),
        (errno.EDQUOT, ErrorClass.DISK_FULL),
        (errno.EACCES, ErrorClass.PERMISSION),
        (errno.EROFS, ErrorClass.PERMISSION),
        (errno.EIO, ErrorClass.DISK),
    ],
)
def test_disk_errors_of_local_files_are_transient(
    clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: ErrorClass
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(stage, "link_or_copy", refuse)
    error = fails(clip, out)
    assert isinstance(error, TransientError)
    assert error.error_class is kind


def test_what_others_left_in_the_folder_stays(clip: Path, out: Path) -> None:
    (out / "other.mp4").touch()
    (out / f"{ID}.mp4.part").touch()  # of an attempt that died
    fetch(clip, out)
    assert names(out) == [f"{ID}.mp4", "info.json", "other.mp4"]
    assert urlsplit(str(clip)).scheme == ""
