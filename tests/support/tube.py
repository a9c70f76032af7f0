"""A small YouTube on loopback: videos that end in every way that there is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import videos, youtube_server
from tests.support.http_server import File, Reply, Server
from tests.support.site import Site

POLICY = {
    "blocked_titles": ["forb?idden"],
    "blocked_hashtags": ["spam"],
    "max_duration": 100,
    "licences": ["Creative Commons*"],
    "max_size_mb": 0.5,
}
SETTINGS = {
    "retries": 0,
    "socket_timeout": 4,
    "min_bytes_per_second": 100,  # small blocks
    "policy": POLICY,
    "budget": {
        "first_pause_seconds": 0.2,
        "max_wait_minutes": 2,
        "youtube": {
            "downloads_per_hour": 1_000_000,
            "sleep_interval": 0,
            "max_sleep_interval": 0,
        },
        "others": {"requests_per_minute": 60_000, "downloads_per_hour": 1_000_000},
    },
}
ATTEMPTS = 3
REMOVED = "Video unavailable. This video has been removed by the uploader"
BOT = "Sign in to confirm you’re not a bot"
COPYRIGHT = "This video is no longer available due to a copyright claim by Someone"
LIVE_SOON = "This live event will begin in 3 hours."
TOO_MANY = Reply(429, headers={"Retry-After": "1"})
FAR = {"Retry-After": "86400"}  # longer than any job waits
ETAG = '"one"'
NAME = r"rtrim(regexp_replace(url, '.*[/=]', ''), '_')"  # a case's, from its link


@dataclass(frozen=True)
class Case:
    """A video of the tube: how it answers, how it ends, and what that costs in requests."""

    page: dict[str, Any] | Reply
    ends: str
    pages: int
    media: Any = None
    files: int = 0
    at_first: tuple[dict[str, Any] | Reply, ...] = ()
    """What is answered before the page, each once."""


def cases(clip: Path, tmp: Path) -> dict[str, Case]:
    """Return the tube's videos, by name."""
    body = clip.read_bytes()
    half = len(body) // 2
    cut = Reply(body=body[:half], content_type="video/mp4", declared_length=len(body))
    large = Reply(body=b"x", content_type="video/mp4", declared_length=600_000)
    picture = tmp / "picture.jpg"
    picture.write_bytes(videos.jpeg())
    refused, once, again = "FAILED policy", "DOWNLOADED", ATTEMPTS
    return {
        "good": Case({}, once, 1, clip, 1),
        # what YouTube says of videos that are not to be had
        "removed": Case({"error": REMOVED}, "FAILED removed", 1),
        "private": Case({"error": "Private video. Sign in if"}, "FAILED private", 1),
        "members": Case({"error": "Join this channel to get access"}, "FAILED members_only", 1),
        "age": Case({"error": "Sign in to confirm your age."}, "FAILED age", 1),
        "geo": Case({"raise": "geo"}, "FAILED geo", 1),
        "copyright": Case({"error": COPYRIGHT}, "FAILED copyright", 1),
        "drm": Case({"raise": "drm"}, "FAILED drm", 1),
        "live": Case({"live_status": "is_live"}, "FAILED live", 1, clip),
        "soon": Case({"error": LIVE_SOON}, "FAILED live", 1),
        "page404": Case(Reply(404), "FAILED removed", 1),
        # files that are not what they should be
        "file410": Case({}, "FAILED removed", 1, Reply(410), 1),
        "picture": Case({}, "FAILED no_video", 1, picture, 1),
        # the policy: one page, and no byte of the file
        "title": Case({"title": "A FORBIDDEN film"}, refused, 1, clip),
        "hashtag": Case({"description": "buy #spam"}, refused, 1, clip),
        "long": Case({"duration": 101}, refused, 1, clip),
        "licence": Case({"license": None}, refused, 1, clip),
        "large": Case({}, refused, 1, large, 1),
        "unknown": Case({"duration": None}, "FAILED unchecked", again, clip),
        # what passes: nobody is condemned for it
        "page500": Case(Reply(500), "PENDING server", again),
        "reset": Case({}, "PENDING network", again, Reply(reset=True), again),
        "silent": Case({}, "PENDING timeout", again, Reply(delay=60), again),
        # what has passed by the second attempt; the first one's bytes are not fetched again
        "stalls": Case({}, once, 2, [File(clip, ETAG, stop_after=half), File(clip, ETAG)], 2),
        "cut": Case({}, once, 2, [cut, clip], 2),
        "late500": Case({}, once, 2, [Reply(500), clip], 2),
        # what has all jobs leave YouTube alone for a moment; then the same attempt asks again
        "busy": Case({}, once, 3, clip, 1, (TOO_MANY, TOO_MANY)),
        "bot": Case({}, once, 2, clip, 1, ({"error": BOT},)),
    }


# sites of their own that go on refusing: asked once, and no more while the pause lasts
REFUSING = {
    "refuses": (Reply(429, headers=FAR), "PENDING rate_limit"),
    "distrusts": (Reply(403, BOT.encode(), headers=FAR), "PENDING bot_check"),
}


def video_id(name: str) -> str:
    return f"{name:_<11}"


def publish(tube: Server, name: str, case: Case) -> str:
    """Put a video on the tube; return its link."""
    if case.media is not None:
        tube.add(f"/{name}.mp4", case.media)
    page = case.page
    if isinstance(page, dict) and not {"error", "raise"} & page.keys():
        file = {"url": f"{tube.url}/{name}.mp4", "ext": "mp4", "vcodec": "avc1", "height": 120}
        page = {
            "title": f"About {name}",
            "description": "",
            "uploader": "Someone",
            "duration": 2,
            "license": "Creative Commons Attribution",
            "upload_date": "20240229",
            "formats": [{"format_id": "f", **file}],
            **page,
        }
    return youtube_server.add_video(tube, video_id(name), *case.at_first, page)


def ends(site: Site) -> dict[str, str]:
    """Return the status of each video, and the class of its error."""
    rows = site.rows(f"SELECT {NAME}, status, error_class FROM videos")
    return {name: " ".join(filter(None, row)) for name, *row in rows}


def assert_failures_are_told(site: Site) -> None:
    """Each failure names what to do next, and `dataminer status` names each class."""
    failures = site.rows("SELECT error_class, error FROM videos WHERE error IS NOT NULL")
    assert failures
    assert all(" Next: " in error for _, error in failures)
    reported = site.dataminer_here("status").stdout
    for error_class, _ in failures:
        assert re.search(rf"^\W+{error_class}\W+(permanent|transient)\W", reported, re.MULTILINE)
