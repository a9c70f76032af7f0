"""The table of messages, compared with the yt-dlp that is installed and what YouTube says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import yt_dlp
from yt_dlp import utils
from yt_dlp.cookies import CookieLoadError
from yt_dlp.networking import Response, exceptions

from dataminer.errors import (
    CHECK_LINK,
    NEXT_STEP,
    ErrorClass,
    Kind,
    advice,
    kind_of,
    os_error_class,
    runnable,
)
from dataminer.net.ytdlp_errors import PATTERNS, one_line, stage_error

SOURCES = Path(yt_dlp.__file__).parent
YOUTUBE = "extractor/youtube/_video.py"

# what yt-dlp itself writes, where, and what it means: an upgrade that rewords it fails here
WRITTEN = [
    ("This video is DRM protected", "extractor/common.py", "drm"),
    ("is known to use DRM protection", "extractor/unsupported.py", "drm"),
    (
        "The uploader has not made this video available in your country",
        YOUTUBE,
        "geo",
    ),
    ("This video is not available from your location", "extractor/common.py", "geo"),
    ("This video is only available for registered users", "extractor/common.py", "login"),
    ("confirm your age", YOUTUBE, "age"),
    ("age-restricted", YOUTUBE, "age"),
    ("YouTube is requiring a captcha challenge", YOUTUBE, "bot_check"),
    ("This content isn't available, try again later", YOUTUBE, "rate_limit"),
    ("has been rate-limited by YouTube", YOUTUBE, "rate_limit"),
    ("is not currently live", "utils/_utils.py", "live"),
    ("Unsupported URL", "utils/_utils.py", "unsupported"),
    ("Did not get any data blocks", "downloader/http.py", "empty"),
    ("The downloaded file is empty", "downloader/fragment.py", "empty"),
    ("failed to load cookies", "cookies.py", "cookies"),
    ("Got error: ", "downloader/common.py", "network"),
    ("more expected", "networking/exceptions.py", "network"),
    ("ffmpeg is not installed", "YoutubeDL.py", "missing_tool"),
    ("ffmpeg could not be found", "downloader/external.py", "missing_tool"),
    ("ffmpeg not found", "postprocessor/ffmpeg.py", "missing_tool"),
]
# what YouTube is known to answer; yt-dlp passes it on
YOUTUBE_MESSAGES = [
    ("Video unavailable", "removed"),
    ("This video is unavailable", "removed"),
    ("This video isn't available anymore", "removed"),
    ("Video unavailable. This video is not available", "removed"),
    ("Video unavailable. This video has been removed by the uploader", "removed"),
    ("This video has been removed for violating YouTube's policy on hate speech.", "removed"),
    ("This video is no longer available because the uploader has closed their account", "removed"),
    (
        "This video is no longer available because the YouTube account associated with this video"
        " has been terminated.",
        "removed",
    ),
    ("This video does not exist.", "removed"),
    ("Private video. Sign in if you've been granted access to this video", "private"),
    ("This video is private", "private"),
    ("Join this channel to get access to members-only content like this video", "members_only"),
    ("This video is available to this channel's members on level: Gold", "members_only"),
    ("This video requires payment to watch", "members_only"),
    ("This video is only available to Music Premium members", "members_only"),
    ("Sign in to confirm your age. This video may be inappropriate for some users.", "age"),
    ("Video unavailable. The uploader has not made this video available in your country", "geo"),
    (
        "Video unavailable. This video contains content from UMG, who has blocked it in your"
        " country on copyright grounds",
        "geo",
    ),
    (
        "Video unavailable. This video contains content from UMG, who has blocked it on copyright"
        " grounds",
        "copyright",
    ),
    ("This video is no longer available due to a copyright claim by UMG", "copyright"),
    ("This live event will begin in 3 hours.", "live"),
    ("Premieres in 26 minutes", "live"),
    ("Premiere will begin shortly", "live"),
    ("Sign in to confirm you’re not a bot. Use --cookies", "bot_check"),
    ("Sign in to confirm you're not a bot", "bot_check"),
    ("HTTP Error 429: Too Many Requests", "rate_limit"),
    ("HTTP Error 503: Service Unavailable", "server"),
    ("The read operation timed out", "timeout"),
    ("<urlopen error [Errno 111] Connection refused>", "network"),
    ("The page needs to be reloaded.", "internal"),
    ("The parental guide", "internal"),
]


def found(message: str) -> str:
    return stage_error(utils.DownloadError(f"ERROR: [youtube] id: {message}"), "x").error_class


@pytest.mark.parametrize(("text", "path", "expected"), WRITTEN)
def test_what_yt_dlp_writes(text: str, path: str, expected: str) -> None:
    source = (SOURCES / path).read_text(encoding="utf-8")
    assert re.search(re.escape(text), source, re.IGNORECASE), f"{path} no longer says {text!r}"
    assert found(text) == expected


@pytest.mark.parametrize(("text", "expected"), YOUTUBE_MESSAGES)
def test_what_youtube_says(text: str, expected: str) -> None:
    assert found(text) == expected


def test_each_line_of_the_table_is_needed() -> None:
    texts = [text for text, *_ in WRITTEN + YOUTUBE_MESSAGES]
    for pattern, error_class in PATTERNS:
        assert any(pattern.search(text) for text in texts), f"{error_class}: {pattern.pattern}"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (utils.GeoRestrictedError("elsewhere"), "geo"),
        (utils.UnsupportedError("http://x"), "unsupported"),
        (utils.UserNotLive(), "live"),
        (utils.DownloadCancelled("stop"), "policy"),
        (utils.ContentTooShortError(1, 2), "network"),
        (exceptions.TransportError("x"), "network"),
        (exceptions.NoSupportingHandlers([], []), "unsupported"),
        (CookieLoadError("x"), "cookies"),
        (OSError(28, "No space left on device"), "disk_full"),
        (PermissionError(13, "Permission denied"), "permission"),
        (ValueError("odd"), "internal"),
    ],
)
def test_types_that_yt_dlp_raises(error: Exception, expected: str) -> None:
    assert stage_error(error, "x").error_class == expected
    wrapped = utils.DownloadError("something", (type(error), error, None))
    assert stage_error(wrapped, "x").error_class == expected


def test_words_in_a_link_decide_nothing() -> None:
    link = "https://host.example/private-video/is-private/copyright.mp4?video=unavailable"
    assert found(f"Unable to download {link}: HTTP Error 503: Busy (see {link}).") == "server"
    assert found(f"{link}: it is odd") == "internal"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (300, "network"),  # a redirect that leads nowhere
        (308, "network"),
        (400, "unsupported"),
        (401, "blocked"),
        (402, "members_only"),
        (403, "blocked"),
        (404, "removed"),
        (405, "unsupported"),
        (407, "blocked"),
        (408, "timeout"),
        (410, "removed"),
        (416, "unsupported"),
        (425, "server"),
        (429, "rate_limit"),
        (451, "geo"),
        (499, "unsupported"),
        *((status, "server") for status in (500, 502, 503, 504, 520, 529)),
    ],
)
def test_statuses_by_themselves(status: int, expected: str) -> None:
    """Whatever a server, or the site's part of yt-dlp, writes beside the number."""
    response = Response(io.BytesIO(), "http://x", {}, status, "So it is")
    error = exceptions.HTTPError(response)
    wrapped = utils.DownloadError("something", (type(error), error, None))
    caused = utils.ExtractorError("cannot fetch the page", cause=error)
    for each in (wrapped, caused):
        assert stage_error(each, "x").error_class == expected
    assert response.closed


def test_every_class_has_a_kind_and_a_next_step() -> None:
    assert set(NEXT_STEP) == set(ErrorClass)
    kinds = {kind: {c.value for c in ErrorClass if kind_of(c) is kind} for kind in Kind}
    assert {"removed", "private", "members_only", "age", "geo", "copyright", "policy"} <= kinds[
        Kind.PERMANENT
    ]
    assert {"network", "server", "rate_limit", "bot_check", "timeout"} <= kinds[Kind.TRANSIENT]
    assert {"disk_full", "permission", "missing_tool"} <= kinds[Kind.LOCAL]


def test_the_guide_names_every_class_with_its_kind() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "youtube.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (\w+) \|", guide, re.MULTILINE)
    reported = {name: kind for names, kind in rows for name in re.findall("[a-z_]+", names)}
    assert reported == {error_class.value: kind_of(error_class).value for error_class in ErrorClass}


def test_errors_of_the_system() -> None:
    for error, expected in [
        (OSError(28, ""), "disk_full"),
        (OSError(116, ""), "disk"),
        (OSError(30, ""), "permission"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "network"),
        (OSError(2, ""), "internal"),
    ]:
        assert os_error_class(error) == expected


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "ERROR: [generic] http://ann:pw@h/x?token=t&v=1 is gone",
            "http://h/x?token=...&v=1 is gone",
        ),
        ("cannot reach socks5://ann:pw@proxy:1080", "cannot reach socks5://proxy:1080"),
        ("bad value TOKEN-TOKEN", "bad value ..."),
    ],
)
def test_secrets_are_not_told(text: str, kept: str) -> None:
    assert one_line(text, ["TOKEN-TOKEN"]) == kept


def test_the_commands_of_the_step_for_a_link_are_filled_in() -> None:
    text = runnable(f"it sent text. Next: {CHECK_LINK}", "a1", ["birds"])
    assert "`dataminer retry --download a1`" in text
    assert "`dataminer delete-videos a1 --project birds`" in text


def test_the_command_that_takes_out_a_video_is_filled_in() -> None:
    step = NEXT_STEP[ErrorClass.MISSING_SOURCE]
    for which, projects, command in (
        ("a1", ["birds"], "a1 --project birds"),
        ("a1", ["birds", "fish"], "a1 --project birds --project fish"),
        ("-a1", ["birds"], "--project birds -- -a1"),
        ("a1", [], "a1"),
        ("--class missing_source", ["birds"], "--class missing_source --project birds"),
    ):
        of = "".join(f" --project {name}" for name in projects)
        filled = step.replace("VIDEO --project PROJECT", command)
        filled = filled.replace("retry --class missing_source", f"retry --class missing_source{of}")
        assert runnable(f"VIDEO is gone. Next: {step}", which, projects) == (
            f"VIDEO is gone. Next: {filled}"
        )
        assert advice("missing_source", which, projects) == filled
    assert advice("of another version", "a1", ["birds"]) == advice(None, "a1", []) == ""
