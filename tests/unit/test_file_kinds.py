"""Files that are named like videos and are none are called what they are."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import pytest

from dataminer.errors import ErrorClass, PermanentError
from dataminer.video.info import probe
from tests.support.patches import patches_picture

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
ENCODINGS += ["utf-32-be", "cp1251"]
WITHOUT_MARK = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
TEXTS = {
    "<!DOCTYPE html><html><title>Видео не найдено</title>": "an HTML page",
    "\r\n <HTML><head>Запрещено</head>": "an HTML page",
    "<!-- одно --> <!-- два -->\n<body>Видео": "an HTML page",
    "<script>location = '/x'</script>": "an HTML page",
    "<meta charset='utf-16'>Видео": "an HTML page",
    "<h1>403</h1>": "an HTML page",
    "<?xml version='1.0'?><Error>Нет</Error>": "an XML text",
    '{"error": "Видео"}': "a JSON text",
    "#EXTM3U\n#EXTINF:9,Видео\na.ts": "a playlist",
    "[playlist]\nFile1=http://localhost/a.mp4": "a playlist",
    "<ASX version='3.0'><entry>Видео": "a playlist",
    "not found: Видео": "a text",
}


def refused(path: Path) -> PermanentError:
    with pytest.raises(PermanentError) as raised:
        probe(path)
    return raised.value


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_any_encoding(tmp_path: Path, text: str, encoding: str) -> None:
    video = tmp_path / "a.mp4"
    for length in (1, 200):  # shorter and longer than what is read
        video.write_bytes((text + "\n" + "Ещё строка. " * length).encode(encoding))
        error = refused(video)
        assert error.message.startswith(f"a.mp4 is {TEXTS[text]}, not a video")
        is_playlist = TEXTS[text] == "a playlist"
        assert error.error_class is (ErrorClass.NO_VIDEO if is_playlist else ErrorClass.CORRUPT)
        assert error.hint


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e not in WITHOUT_MARK])
def test_texts_of_other_scripts(tmp_path: Path, encoding: str) -> None:
    """Without a byte order mark, two bytes per letter are known by ASCII only."""
    (tmp_path / "a.mp4").write_bytes(("Видео не найдено. " * 100).encode(encoding))
    assert refused(tmp_path / "a.mp4").message.startswith("a.mp4 is a text")


@pytest.mark.parametrize("pair", [(7, 0), (0, 7), (0x41, 0), (0, 0x41)])
def test_small_numbers_are_no_text(tmp_path: Path, pair: tuple[int, int]) -> None:
    """Of two bytes each, as sound has them, they look like UTF-16."""
    numbers = (bytes(pair) + bytes([pair[0] and 3, pair[1] and 3])) * 3000
    (tmp_path / "a.mp4").write_bytes(bytes(pair) * 2 + numbers)
    error = refused(tmp_path / "a.mp4")
    assert "cannot be opened" in error.message


def test_many_comments_take_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"<!---->" * 140 + b"<x")
    start = time.monotonic()
    assert "a text" in refused(tmp_path / "a.mp4").message
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm"])
def test_an_image_is_called_one_by_any_name(tmp_path: Path, suffix: str) -> None:
    data = cv2.imencode(suffix, patches_picture(1920, 1080))[1].tobytes()
    for name in (f"a{suffix}", "a.mp4", "a.mjpeg"):
        (tmp_path / name).write_bytes(data)
        error = refused(tmp_path / name)
        assert error.message == f"{name} is an image, not a video"
        assert error.error_class is ErrorClass.NO_VIDEO
