"""Pictures one after another: raw streams, and multipart streams of cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dataminer.errors import ErrorClass, PermanentError
from dataminer.video.info import probe
from tests.support.matrix.pictures import picture, read_number
from tests.support.patches import Extracted

LENGTH = 30
EVERY_TENTH = {"strategy": "interval", "every_frames": 10}


def images(kind: str, length: int = LENGTH) -> list[bytes]:
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if kind == ".jpg" else []
    pictures = [np.ascontiguousarray(picture(n)[..., ::-1]) for n in range(length)]
    return [cv2.imencode(kind, image, quality)[1].tobytes() for image in pictures]


def numbers(got: Extracted) -> list[int | None]:
    return [read_number(np.ascontiguousarray(image[..., ::-1])) for image in got.images]


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *(("mjpeg", ".jpg"), ("mjpg", ".jpg"), ("avi", ".jpg"), ("bin", ".png"), ("bin", ".ppm")),
        *(("bin", ".bmp"),),
    ],
)
def test_a_stream_without_a_container(tmp_path: Path, suffix: str, kind: str) -> None:
    video = tmp_path / f"a.{suffix}"
    video.write_bytes(b"".join(images(kind)))
    got = Extracted(video, tmp_path / "out", **EVERY_TENTH)
    assert numbers(got) == [0, 10, 20]
    assert got.warning is None
    assert not got.notes
    assert probe(video).width == 160


def test_a_stream_whose_first_picture_is_damaged(tmp_path: Path) -> None:
    pictures = images(".jpg")
    first = bytearray(pictures[0])
    first[first.index(b"\xff\xc0") + 9] = 200  # components
    (tmp_path / "a.mjpeg").write_bytes(b"".join([bytes(first), *pictures[1:]]))
    got = Extracted(tmp_path / "a.mjpeg", tmp_path / "out", **EVERY_TENTH)
    assert len(got.rows) == 3
    assert got.notes["refused_packets"] == 1


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_pictures_are_an_image(tmp_path: Path, count: int) -> None:
    """Photos for both eyes hold two of one size."""
    video = tmp_path / "a.mjpeg"
    video.write_bytes(b"".join(images(".jpg", count)))
    with pytest.raises(PermanentError, match="is an image, not a video") as raised:
        probe(video)
    assert raised.value.error_class is ErrorClass.NO_VIDEO


def test_previews_beside_a_photo_are_no_frames(tmp_path: Path) -> None:
    photo = images(".jpg", 1)[0]
    sizes = ((80, 60), (40, 30), (20, 15))
    smaller = [cv2.imencode(".jpg", np.zeros((h, w, 3), np.uint8))[1].tobytes() for w, h in sizes]
    (tmp_path / "a.mjpeg").write_bytes(b"".join([photo, *smaller]))
    with pytest.raises(PermanentError, match="is an image, not a video"):
        probe(tmp_path / "a.mjpeg")


def multipart(parts: list[bytes], *, with_length: bool) -> bytes:
    head = b"--frame\r\nContent-Type: image/jpeg\r\n"
    lengths = [b"Content-Length: %d\r\n" % len(part) if with_length else b"" for part in parts]
    pairs = zip(lengths, parts, strict=True)
    return b"".join(head + length + b"\r\n" + part + b"\r\n" for length, part in pairs)


@pytest.mark.parametrize("with_length", [True, False])
@pytest.mark.parametrize("end", [b"", b"--frame--\r\n", b"--frame\r\n"])
def test_a_multipart_stream_is_sound_however_it_ends(
    tmp_path: Path, end: bytes, with_length: bool
) -> None:
    (tmp_path / "a.mpjpeg").write_bytes(multipart(images(".jpg"), with_length=with_length) + end)
    got = Extracted(tmp_path / "a.mpjpeg", tmp_path / "out", **EVERY_TENTH)
    assert numbers(got) == [0, 10, 20]
    assert got.warning is None
    assert not got.notes


def test_a_part_that_cannot_be_read_is_counted_in_a_multipart_stream(tmp_path: Path) -> None:
    parts = images(".jpg")
    first = multipart(parts[:15], with_length=True)
    broken = b"--frame\r\nContent-Type: text/plain\r\n\r\n"
    data = first + broken + multipart(parts[15:], with_length=True) + b"--frame--\r\n"
    (tmp_path / "a.mpjpeg").write_bytes(data)
    got = Extracted(tmp_path / "a.mpjpeg", tmp_path / "out", **EVERY_TENTH)
    assert got.notes["unread_parts"] >= 1
    assert got.warning
