"""YouTube links: from any spelling to the 11-character id, or to a list of videos.

This is our own table, because ``YoutubeIE.extract_id`` of ``yt_dlp`` takes 0.2 s to import, accepts
any word of 11 characters as an id, truncates longer ids to 11, and rejects links without a scheme.
The tests compare the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode

SITE = "https://www.youtube.com"
WATCH_URL = f"{SITE}/watch?v={{}}"

_ID = r"[A-Za-z0-9_-]{11}"
_HOST = (
    r"(?:(?:[A-Za-z0-9_-]+\.)*youtube(?:-nocookie|kids)?\.com"
    r"|(?:www\.)?youtu\.be|youtube\.googleapis\.com)"
)
_HOST_ONLY = re.compile(_HOST + r"\.?", re.IGNORECASE)
_NO_SCHEME = re.compile(rf"(?://)?(?={_HOST}(?::\d+)?(?:[/?#]|$))", re.IGNORECASE)
_WHOLE_ID = re.compile(_ID)
# an id may be followed by anything that cannot be part of an id
_LEADING_ID = re.compile(_ID + r"(?![\w-])")
_IN_PATH = re.compile(r"/(?:v|vi|e|embed|shorts|live|watch)/([^/?&#;]+)", re.IGNORECASE)
_SHORT_HOST = re.compile(r"(?:www\.)?youtu\.be\.?", re.IGNORECASE)
_IN_QUERY = re.compile(r"(?:^|[?&;!])v=([^&;#]*)")
# pages that show the video of their `v=`, or link to it in their query
_WATCH_PATH = re.compile(
    r"/?(?:(?:watch|movie)(?:_popup)?(?:\.php)?|attribution_link|signin|ml?)?/?", re.IGNORECASE
)
_NOT_IDS = {
    "videoseries",
    "live_stream",
}  # both have 11 letters and appear in the position of an id
_OTHER_PAGES = [
    (re.compile(pattern, re.IGNORECASE), sentence)
    for pattern, sentence in [
        (
            r"/playlist|/embed/videoseries|[?&;]list=",
            "is a YouTube playlist, not a video: give it as youtube.com/playlist?list=ID",
        ),
        (
            r"/(?:@|channel/|c/|user/)|live_stream",
            "is a page of a YouTube channel, not a video: give youtube.com/@NAME, or its /videos,"
            " /shorts or /streams",
        ),
        (
            r"/(?:results|search|hashtag/|feed)",
            "is a YouTube search page, not a video: give youtube.com/results?search_query=WORDS,"
            " or write the words under input.searches",
        ),
        (
            r"/clip/",
            "is a YouTube clip, not a video: give the video that it was cut from",
        ),
    ]
]
_LIST_ID = re.compile(r"[A-Za-z0-9_-]{2,100}")
_LIST_PATH = re.compile(r"/(?:playlist|watch|embed/videoseries)/?", re.IGNORECASE)
_CHANNEL_PATH = re.compile(
    r"/(?P<name>@[^/?#&\s]{1,100}|(?:channel|c|user)/[^/?#&\s]{1,100})"
    r"(?:/(?P<tab>[^/]*))?(?:/.*)?",
    re.IGNORECASE | re.DOTALL,
)
# without a tab, yt-dlp lists all uploads: videos, streams and shorts
_TABS = {"videos": "/videos", "shorts": "/shorts", "streams": "/streams"}
_ALL_UPLOADS = {"", "featured", "home", "about"}


@dataclass(frozen=True)
class VideoList:
    """A page of YouTube that lists many videos.

    Parameters
    ----------
    kind : str
        ``"playlist"``, ``"channel"`` or ``"search page"``.
    url : str
        Its link, in the spelling that yt-dlp accepts.
    """

    kind: str
    url: str


def is_id(text: str) -> bool:
    """Return whether a text has the form of a YouTube id (as do many plain words)."""
    return _WHOLE_ID.fullmatch(text) is not None


def is_host(host: str) -> bool:
    """Return whether a host name is one of YouTube's own."""
    return _HOST_ONLY.fullmatch(host) is not None


def with_scheme(text: str) -> str | None:
    """Complete a YouTube link that lacks ``https:``; return None for anything else."""
    match = _NO_SCHEME.match(text)
    return None if match is None else f"https://{text[match.end() :]}"


def video_id(url: SplitResult) -> str:
    """Return the id of the video that a link to one of YouTube's hosts names.

    Parameters
    ----------
    url : SplitResult
        A link whose host passes :func:`is_host`.

    Returns
    -------
    str
        The 11 characters.

    Raises
    ------
    ValueError
        With the reason, if the link names no video: a playlist, a channel, a truncated id.
    """
    path = re.sub("/+", "/", unquote(url.path, errors="replace"))
    candidate = _candidate(url, path)
    if candidate is None:
        raise ValueError(_describe_page(f"{path}?{url.query}"))
    match = _LEADING_ID.match(candidate)
    if match is None:
        raise ValueError("names no YouTube video: an id has 11 letters, digits, `-` or `_`")
    return match[0]


def video_list(url: SplitResult) -> VideoList | None:
    """Read a link to one of YouTube's hosts as a list of videos.

    Parameters
    ----------
    url : SplitResult
        A link whose host passes :func:`is_host`.

    Returns
    -------
    VideoList or None
        None for a link to one video (also to one in a playlist), and for any other page.
    """
    path = re.sub("/+", "/", unquote(url.path, errors="replace"))
    query = parse_qs(url.query)
    in_query = {name: values[0].strip() for name, values in query.items()}
    list_id = in_query.get("list", "")
    if _LIST_PATH.fullmatch(path) and _LIST_ID.fullmatch(list_id):
        if path.lower().startswith("/watch") and in_query.get("v"):
            return None
        return VideoList("playlist", f"{SITE}/playlist?list={list_id}")
    words = in_query.get("search_query") or in_query.get("q")
    if path.lower().rstrip("/") == "/results" and words:
        fields = {"search_query": words, **({"sp": in_query["sp"]} if "sp" in in_query else {})}
        return VideoList("search page", f"{SITE}/results?{urlencode(fields)}")
    return _channel(path)


def _channel(path: str) -> VideoList | None:
    match = _CHANNEL_PATH.fullmatch(path)
    tab = ((match and match["tab"]) or "").lower()
    if match is None or not (tab in _TABS or tab in _ALL_UPLOADS):
        return None
    kind, slash, name = match["name"].rpartition("/")
    name = f"{kind.lower()}{slash}{quote(name, safe='@')}"
    return VideoList("channel", f"{SITE}/{name}{_TABS.get(tab, '')}")


def _candidate(url: SplitResult, path: str) -> str | None:
    in_path = _IN_PATH.match(path)
    if in_path is not None:
        return None if in_path[1].lower() in _NOT_IDS else in_path[1]
    page, _, escaped_query = path.partition("?")  # `watch%3Fv%3D…`: a link copied with its escapes
    if _WATCH_PATH.fullmatch(page):
        for query in (url.query, escaped_query, unquote(url.query), unquote(url.fragment)):
            in_query = _IN_QUERY.search(query)
            if in_query is not None:
                return unquote(in_query[1], errors="replace")
    if _SHORT_HOST.fullmatch(url.hostname or "") and page.strip("/"):
        return re.split("[/?&#;]", page.strip("/"), maxsplit=1)[0]
    return None


def _describe_page(path_and_query: str) -> str:
    for pattern, sentence in _OTHER_PAGES:
        if pattern.search(path_and_query):
            return sentence
    return "is a YouTube page that names no video: write a link such as youtube.com/watch?v=ID"
