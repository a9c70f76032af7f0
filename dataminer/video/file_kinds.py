"""What a file is that is named like a video and is none, from its first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dataminer.errors import ErrorClass, PermanentError

_FIRST_BYTES = 1024
_SAMPLE_BYTES, _SAMPLES = 1 << 16, 16  # of a file that begins with zeros
_TEXT_BYTES = bytes([*range(0x20, 0x100), *b"\t\n\f\r"])
_THEN = "then `dataminer retry --download VIDEO`"
_GET_AGAIN = f"replace the file: download it again, {_THEN}"
_PAGE = (
    f"replace the file: a server sent this instead of the video; download it again, {_THEN}, or"
    " remove it from your list"
)
_UNPACK = f"replace the file by the video in it: unpack it, {_THEN}"
_LIST_TARGET = "list what it leads to"
_NO_COPY = "remove it from your list, and `dataminer delete-videos VIDEO --project PROJECT`"


@dataclass(frozen=True)
class FileKind:
    """What a file is instead of a video."""

    what: str
    hint: str
    error_class: ErrorClass = ErrorClass.CORRUPT

    def error(self, name: str) -> PermanentError:
        """Return the error about a file of this kind."""
        return PermanentError(f"{name} is {self.what}", self.error_class, self.hint)


def _not_a_video(what: str, hint: str) -> FileKind:
    return FileKind(f"{what}, not a video", hint)


_WEBP_HINT = (
    "convert it first, for example to MP4 with ImageMagick (`magick IN.webp OUT.mp4`), and list"
    " the result instead"
)
_JXL_HINT = (
    "convert it first, for example to APNG with libjxl (`djxl IN.jxl OUT.apng`), and list the"
    " result instead"
)
_ANIMATED_WEBP = FileKind(
    "an animated WebP, which dataminer cannot decode", _WEBP_HINT, ErrorClass.UNSUPPORTED
)
_JXL = FileKind(
    "a JPEG XL picture, which dataminer cannot decode", _JXL_HINT, ErrorClass.UNSUPPORTED
)
# with which pages begin that have no doctype (WHATWG MIME Sniffing, 7.1)
_HTML_TAGS = (
    *("html", "head", "body", "script", "iframe", "h1", "div", "font", "table", "style", "title"),
    *("a", "b", "br", "p", "meta", "link", "center", "pre", "form", "main", "section", "span"),
)
_COMMENTS = rb"(?>(?:<!--.*?-->\s*)*)"
# Byte order marks, the longer ones first, and what ASCII looks like without one.
_ENCODINGS = [
    (re.compile(pattern, re.DOTALL), encoding)
    for pattern, encoding in [
        (rb"\xef\xbb\xbf", "utf-8"),
        (rb"\xff\xfe\0\0", "utf-32-le"),
        (rb"\0\0\xfe\xff", "utf-32-be"),
        (rb"\xff\xfe", "utf-16-le"),
        (rb"\xfe\xff", "utf-16-be"),
        (rb"(?:[^\0]\0\0\0){2}", "utf-32-le"),
        (rb"(?:\0\0\0[^\0]){2}", "utf-32-be"),
        (rb"(?:[^\0]\0){2}", "utf-16-le"),
        (rb"(?:\0[^\0]){2}", "utf-16-be"),
    ]
]
_UTF16_BEGINNINGS = (b"\xff\xfe", b"\xfe\xff")
# No video begins like this. Matched at the beginning, after a byte order mark and white space.
_KINDS: list[tuple[re.Pattern[bytes], FileKind]] = [
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), kind)
    for pattern, kind in [
        (
            _COMMENTS + rb"<(!doctype html|%s)(?![^\s/>])" % "|".join(_HTML_TAGS).encode(),
            _not_a_video("an HTML page", _PAGE),
        ),
        (
            _COMMENTS + rb"<(asx|smil)\b|\[(playlist|reference)\]",
            FileKind("a playlist, not a video", _LIST_TARGET, ErrorClass.NO_VIDEO),
        ),
        (rb"<\?xml(?!.*<svg)", _not_a_video("an XML text", _PAGE)),
        (
            rb"version https://git-lfs\.github\.com/spec/",
            _not_a_video(
                "a Git LFS pointer",
                f"replace the file: run `git lfs pull` in its repository, {_THEN}",
            ),
        ),
        (
            b"#EXTM3U",
            FileKind("a playlist, not a video", _LIST_TARGET, ErrorClass.NO_VIDEO),
        ),
        (rb'[{\[]\s*["{\[}\]]|\[\s*-?\d', _not_a_video("a JSON text", _PAGE)),
        (
            rb"d\d+:(announce|comment|created by|creation date|encoding|info|nodes|url-list)",
            _not_a_video("a torrent", f"replace the file by the video it leads to, {_THEN}"),
        ),
        (
            rb"\[InternetShortcut\]",
            _not_a_video("a link to a page", "list the link of the video instead of this file"),
        ),
    ]
]
_BINARY_KINDS: list[tuple[bytes, FileKind]] = [
    *((sign, _not_a_video("a ZIP archive", _UNPACK)) for sign in (b"PK\3\4", b"PK\5\6", b"PK\7\b")),
    *(
        (sign, _not_a_video(f"{what} archive", _UNPACK))
        for sign, what in [
            (b"\x1f\x8b\x08", "a gzip"),
            (b"7z\xbc\xaf\x27\x1c", "a 7z"),
            (b"Rar!\x1a\x07", "a RAR"),
            (b"\xfd7zXZ\0", "an xz"),
            (b"\x28\xb5\x2f\xfd", "a Zstandard"),
        ]
    ),
    *((b"BZh%d1AY&SY" % level, _not_a_video("a bzip2 archive", _UNPACK)) for level in range(1, 10)),
    (b"%PDF-", _not_a_video("a PDF document", _GET_AGAIN)),
    (b"\x7fELF", _not_a_video("a program", _NO_COPY)),
    (b"SQLite format 3\0", _not_a_video("an SQLite database", _NO_COPY)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _not_a_video("an Office document", _NO_COPY)),
    (b"bplist00", _not_a_video("a property list", _NO_COPY)),
    (
        b"\0\5\x16\7",
        _not_a_video("a file of attributes that macOS keeps beside another file", _NO_COPY),
    ),
    (b"\xff\x0a", _JXL),
    (b"\0\0\0\x0cJXL \r\n\x87\n", _JXL),
]
_IMAGES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|BM|II\*\0|MM\0\*|P[1-7]\s|GIF8|RIFF.{4}WEBP|\x76\x2f\x31\x01", re.DOTALL
)
_ZEROS = FileKind(
    "a file of zeros: space for a download that never came",
    f"replace the file: let its download finish, {_THEN}",
)
_TEXT = _not_a_video("a text", _PAGE)


def reject_other_kinds(path: Path, first: bytes) -> None:
    """Raise an error if a file begins like something that no video begins like.

    Parameters
    ----------
    path : Path
        The file.
    first : bytes
        Its first kilobyte.

    Raises
    ------
    PermanentError
        CORRUPT, or UNSUPPORTED for moving pictures of formats without a decoder.
    """
    kind = _kind_of(path, first)
    if kind:
        raise kind.error(path.name)


def _kind_of(path: Path, first: bytes) -> FileKind | None:
    for sign, kind in _BINARY_KINDS:
        if first.startswith(sign):
            return kind
    if first[257:262] == b"ustar":
        return _not_a_video("a tar archive", _UNPACK)
    if first[:4] == b"RIFF" and first[8:16] == b"WEBPVP8X" and first[20:21] > b"" and first[20] & 2:
        return _ANIMATED_WEBP
    if not first.strip(b"\0"):
        return _ZEROS if _is_all_zeros(path) else None
    text = _as_utf8(first).lstrip()
    named = next((kind for pattern, kind in _KINDS if pattern.match(text)), None)
    # a mark of two bytes looks like MP3 to libav
    return named or (unreadable_kind(first) if first[:2] in _UTF16_BEGINNINGS else None)


def _as_utf8(first: bytes) -> bytes:
    """Return the first bytes of a text, whatever Unicode encoding it has, as UTF-8.

    Others, such as ISO 8859 and Shift JIS, are left as they are: what texts begin with is ASCII.
    """
    encoding = _encoding(first)
    if encoding is None:
        return first
    return first.decode(encoding, errors="ignore").removeprefix("\ufeff").encode()


def _encoding(first: bytes) -> str | None:
    return next((name for sign, name in _ENCODINGS if sign.match(first)), None)


def _is_all_zeros(path: Path) -> bool:
    """Return whether samples of a file that begins with zeros contain nothing else."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for index in range(_SAMPLES + 1):
            file.seek(max(0, size - _SAMPLE_BYTES) * index // _SAMPLES)
            if file.read(_SAMPLE_BYTES).strip(b"\0"):
                return False
    return True


def begins_like_image(first: bytes) -> bool:
    """Return whether a file begins like an image of a common format."""
    return bool(_IMAGES.match(first))


def unreadable_kind(first: bytes) -> FileKind | None:
    """Return what a file is that libav cannot open: a text, or None if it cannot be known."""
    encoding = _encoding(first)
    if encoding is None:
        return None if first.translate(None, _TEXT_BYTES) else _TEXT
    try:
        text = first[: len(first) // 4 * 4].decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if error.end < len(first) - 4:  # otherwise a character is cut in two
            return None
        text = first[: error.start].decode(encoding).removeprefix("\ufeff")
    return _TEXT if all(c.isprintable() or c.isspace() for c in text) else None


def first_bytes(path: Path) -> bytes:
    """Read as much of a file as tells what it is."""
    with path.open("rb") as file:
        return file.read(_FIRST_BYTES)
