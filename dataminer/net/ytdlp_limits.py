"""Limits on what yt-dlp reads and keeps in memory; importing this module applies them to yt-dlp."""

from __future__ import annotations

import functools
import itertools
import re
import zlib
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree
from xml.parsers.expat import errors

import yt_dlp.compat
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking.exceptions import RequestError

from dataminer.errors import DataminerError, ErrorClass, PermanentError
from dataminer.memory import within_memory

MOST_PAGE = 16 << 20  # bytes of a page or a list, of which yt-dlp makes several copies in memory
MOST_PART = 64 << 20  # of one part of a stream, which yt-dlp keeps in memory as well
_MEGABYTE = 1_000_000
_MOST_LISTED = 200  # MB for the contents of all lists that one link leads to: about 500,000 parts
_MOST_TREE = 100  # MB of an XML document
# bytes that yt-dlp keeps per part besides its link, in XML and in HLS; and per attribute
_PART, _LINE, _ATTRIBUTE = 300, 400, 170
_FORMAT = 100_000  # 2,000 formats are too many: yt-dlp takes milliseconds for each
# at the start of a line as defined by str.splitlines()
_PART_LINE = re.compile(rb"(?:^|[\n\r\v\f\x1c-\x1e\x85\xa8\xa9])[ \t]*[^#\s]")
_TAG = re.compile(rb"#EXT-X-.*")
_BLOCK = 1 << 16
_OTHER_LINK = "give the link of the video file itself"


class WrappedError(RequestError):  # type: ignore[misc]
    """Carries an error of ours through yt-dlp, which lets only its own errors pass."""

    def __init__(self, reason: DataminerError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ListBudget:
    """The memory left for the contents of all lists that one link leads to."""

    def __init__(self) -> None:
        self._bytes_left = _MOST_LISTED * _MEGABYTE

    def spend(self, formats: Iterable[dict[str, Any]]) -> None:
        """Deduct what yt-dlp keeps of some formats.

        Raises
        ------
        PermanentError
            UNSUPPORTED, if no memory is left.
        """
        self._bytes_left -= sum(map(_memory_of, formats))
        if self._bytes_left < 0:
            raise _too_long()


def check_count(formats: list[dict[str, Any]] | None) -> None:
    """Raise UNSUPPORTED if a video has too many formats to choose from."""
    if len(formats or ()) * _FORMAT > _MOST_LISTED * _MEGABYTE:
        raise _too_long()


def bounded(response: Any, *, part: bool = False) -> Any:
    """Limit how much can be read of an answer, to the size of a page or of a part of a stream.

    Raises
    ------
    PermanentError
        UNSUPPORTED, if more arrives, or if a list names too many parts.
    """
    most = MOST_PART if part else MOST_PAGE
    read, left, start = response.read, most, b""

    def read_on(amount: int | None = None) -> bytes:
        nonlocal left, start
        whole = amount is None or amount < 0
        try:
            data = read_whole(read, left) if whole else read(amount)
        except WrappedError:
            raise _too_large(most) from None
        left -= len(data)
        if left < 0:
            raise _too_large(most)
        if part:
            return data
        text = start + data
        start = text[:_BLOCK]  # yt-dlp reads some hundred bytes first, and the rest later
        if _memory_of_hls(text, response.url) > _MOST_LISTED * _MEGABYTE:
            raise _too_long()
        return data

    response.read = read_on
    return response


def read_whole(read: Callable[[int], bytes], most: int) -> bytes:
    """Read all of an answer in blocks: one call would allocate what the answer declares."""
    blocks, size = [], 0
    while block := read(_BLOCK):
        size += len(block)
        if size > most:
            raise WrappedError(_too_large(most))
        blocks.append(block)
    return b"".join(blocks)


def decompressed(data: bytes, wbits: int) -> bytes:
    """Decompress data up to the size of a page; ``wbits`` is the format, as for zlib."""
    decompressor = zlib.decompressobj(wbits)
    result = decompressor.decompress(data, MOST_PAGE + 1)
    if len(result) > MOST_PAGE:
        raise WrappedError(_too_large(MOST_PAGE))
    if data and not decompressor.eof:
        raise zlib.error("incomplete")
    return result


def _memory_of_hls(data: bytes, url: str) -> int:
    """Return the most bytes that yt-dlp keeps of the parts that an HLS list names per line."""
    part, most = _LINE + len(url), _MOST_LISTED * _MEGABYTE
    parts = sum(1 for _ in itertools.islice(_PART_LINE.finditer(data), most // part + 1))
    return parts * part + sum(tag[0].count(b"=") for tag in _TAG.finditer(data)) * _ATTRIBUTE


def _memory_of(found: dict[str, Any]) -> int:
    """Return about how many bytes yt-dlp keeps of a format with all of its parts."""
    parts = found.get("fragments") or ()
    texts = sum(len(text) for text in found.values() if isinstance(text, str))
    links = sum(len(part.get("url") or part.get("path") or "") for part in parts)
    return _FORMAT + texts + links + len(parts) * _PART


def _too_long() -> PermanentError:
    message = "it leads to a list that is too large: more than about 2,000 formats or 500,000 parts"
    return PermanentError(message, ErrorClass.UNSUPPORTED, _OTHER_LINK)


def _too_large(most: int) -> PermanentError:
    message = f"it leads to a page, list or part of a stream of more than {most >> 20} MB"
    return PermanentError(message, ErrorClass.UNSUPPORTED, _OTHER_LINK)


# ---- yt-dlp's parsers


def _in_bounds(megabytes: float, parse: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Parse a list, and refuse one that takes too much memory.

    A few bytes of XML can describe any number of parts, and links of any length, in more ways than
    can be counted beforehand.
    """
    try:
        return within_memory(megabytes, parse, *args, **options)
    except MemoryError as error:
        raise _too_long() from error.with_traceback(None)  # the traceback references all of it


def _parsed_in_bounds(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Limit a method of yt-dlp's extractors that returns the formats and subtitles of a list."""

    @functools.wraps(parse)
    def parse_in_bounds(extractor: Any, *args: Any, **options: Any) -> Any:
        formats, subtitles = _in_bounds(_MOST_LISTED, parse, extractor, *args, **options)
        extractor._downloader.list_budget.spend([*formats, *itertools.chain(*subtitles.values())])
        return formats, subtitles

    return parse_in_bounds


def _xml(text: str | bytes, parser: Any) -> Any:
    """Parse XML as yt-dlp does, within a memory limit."""
    try:
        return _in_bounds(_MOST_TREE, ElementTree.XML, text, parser)
    except ElementTree.ParseError as error:
        if errors.messages.get(error.code) != errors.XML_ERROR_NO_MEMORY:
            raise
        raise _too_long() from error


def _flash(extractor: Any, url: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
    """Return a Flash stream, which nothing here can fetch, without reading its parts."""
    return [{"format_id": "f4m", "url": url, "ext": "flv", "protocol": "f4m"}]


# each is accessed by name, so that the import fails if a new yt-dlp names it differently
for _name in (
    "_merge_mpd_periods",
    "_parse_ism_formats_and_subtitles",
    "_parse_m3u8_formats_and_subtitles",
):
    setattr(InfoExtractor, _name, _parsed_in_bounds(getattr(InfoExtractor, _name)))
InfoExtractor._extract_f4m_formats = functools.wraps(InfoExtractor._extract_f4m_formats)(_flash)
yt_dlp.compat.etree = SimpleNamespace(**{**vars(yt_dlp.compat.etree), "XML": _xml})
