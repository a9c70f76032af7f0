"""Settings of downloads: rate limits, the policy, and how requests are made."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from dataminer.config.section import Section

PROXIES = ("http", "socks4", "socks4a", "socks5", "socks5h")  # that requests support
JS_RUNTIMES = ("deno", "node", "bun", "quickjs")  # that yt-dlp knows


class HostRates(Section):
    """Limits for any other single host, shared by all jobs on all nodes."""

    requests_per_minute: int = Field(600, ge=1, le=60_000)
    """Maximum HTTP requests per minute, evenly spaced."""
    downloads_per_hour: int = Field(36_000, ge=1, le=1_000_000)
    """Maximum downloads started per hour."""
    sleep_interval: float = Field(0.0, ge=0, le=86_400)
    """Minimum seconds between the starts of consecutive downloads."""
    max_sleep_interval: float = Field(0.0, ge=0, le=86_400)
    """Maximum of these seconds; each pause is drawn at random between the two."""

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.max_sleep_interval < self.sleep_interval:
            raise ValueError("max_sleep_interval must not be below sleep_interval")
        return self


class YouTubeRates(HostRates):
    """Limits for YouTube, shared by all jobs on all nodes."""

    requests_per_minute: int = Field(30, ge=1, le=60_000)
    """Maximum HTTP requests per minute for pages and formats, evenly spaced."""
    media_requests_per_minute: int = Field(120, ge=1, le=60_000)
    """Maximum HTTP requests per minute for media (googlevideo.com), mostly parts of 10 MB."""
    downloads_per_hour: int = Field(240, ge=1, le=1_000_000)
    """Maximum downloads started per hour; anonymous clients are reported to be blocked at ~300."""
    sleep_interval: float = Field(10.0, ge=0, le=86_400)
    """Minimum seconds between the starts of consecutive downloads."""
    max_sleep_interval: float = Field(20.0, ge=0, le=86_400)
    """Maximum of these seconds; each pause is drawn at random between the two."""


class BudgetConfig(Section):
    """Rate limits that all nodes share through the database, and pauses if a source refuses."""

    first_pause_seconds: float = Field(60.0, gt=0, le=86_400)
    """First pause after a refusal (429, "not a bot") without a stated wait; doubled each time."""
    longest_pause_seconds: float = Field(3600.0, gt=0, le=86_400)
    """Maximum length of such a pause."""
    max_wait_minutes: float = Field(30.0, ge=0, le=1440)
    """A job that would wait longer than this releases the video for a later attempt."""
    youtube: YouTubeRates = YouTubeRates()
    others: HostRates = HostRates()

    @model_validator(mode="after")
    def _pauses_grow(self) -> BudgetConfig:
        if self.longest_pause_seconds < self.first_pause_seconds:
            raise ValueError("longest_pause_seconds must not be below first_pause_seconds")
        return self


class PolicyConfig(Section):
    """Which videos may be downloaded; checked before the download, for links only."""

    blocked_hashtags: list[str] = []
    """Refuse videos with one of these hashtags, with or without `#`, as a tag or in the texts."""
    blocked_titles: list[str] = []
    """Refuse videos whose title matches one of these RE2 regular expressions, in any case."""
    min_duration: float | None = Field(None, ge=0)
    """Refuse shorter videos (in seconds)."""
    max_duration: float | None = Field(None, gt=0)
    """Refuse longer videos (in seconds)."""
    min_size_mb: float | None = Field(None, ge=0)
    """Refuse smaller files (in megabytes of 1,000,000 bytes)."""
    max_size_mb: float | None = Field(None, gt=0)
    """Refuse larger files (in megabytes of 1,000,000 bytes)."""
    licences: list[str] = []
    """Refuse all other and missing licences; whole names in any case, `*` matches any text."""

    @field_validator("blocked_hashtags", "licences")
    @classmethod
    def _are_not_empty(cls, listed: list[str]) -> list[str]:
        if not all(item.strip("# ") for item in listed):
            raise ValueError("an empty entry would refuse nothing or everything: remove it")
        return listed

    @field_validator("blocked_titles")
    @classmethod
    def _are_expressions(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            compile_title(pattern)
        return patterns

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> PolicyConfig:
        for name in ("duration", "size_mb"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{name} must not be above max_{name}")
        return self


def compile_title(pattern: str) -> Any:
    """Compile an expression for titles, which are untrusted: RE2 matches in linear time.

    Raises
    ------
    ValueError
        If it is not valid for RE2, which for example has no back-references.
    """
    import re2  # here: every command loads the settings, and few have patterns

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        if not pattern:
            raise re2.error("an empty expression would refuse every title")
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(f"{pattern!r} is not a valid RE2 regular expression: {reason}") from None


class DownloadConfig(Section):
    """How videos are downloaded, for all projects of a store; see docs/youtube.md."""

    _only_how = frozenset(
        {
            "concurrent_downloads",
            "retries",
            "socket_timeout",
            "timeout_minutes",
            "min_bytes_per_second",
            "rate_window_seconds",
            "cookies",
            "cookies_from_browser",
            "proxy",
            "user_agent",
            "js_runtimes",
            "extractor_args",
            "budget",
            # a change keeps results, and only undoes refusals
            "policy",
            "max_megapixels",
            "max_memory_mb",
        }
    )

    max_height: int = Field(1080, ge=144, le=4320)
    """Download the best video stream of at most this height in pixels."""
    max_megapixels: float = Field(100.0, gt=0, le=178)
    """A video with larger pictures is FAILED (12K has 75); see also `extract.max_megapixels`."""
    max_memory_mb: float = Field(256.0, ge=16)
    """A file whose index, attachments and cover need more MB of memory is FAILED."""
    concurrent_downloads: int = Field(8, ge=1, le=64)
    """How many videos to download in parallel; `budget` limits the rate."""
    retries: int = Field(3, ge=0, le=100)
    """How often yt-dlp itself retries a request."""
    socket_timeout: float = Field(30.0, gt=0, le=600)
    """End a connection that receives no byte for this many seconds."""
    timeout_minutes: float = Field(60.0, gt=0, le=10080)
    """End an attempt at one video after this many minutes; the next one resumes it."""
    min_bytes_per_second: int = Field(1000, ge=0)
    """End a transfer that is slower than this for `rate_window_seconds`; 0 disables the check."""
    rate_window_seconds: float = Field(60.0, gt=0, le=3600)
    """The time over which the speed of a transfer is measured."""
    cookies: str | None = None
    """A cookies.txt file in Netscape format; it is never written to."""
    cookies_from_browser: str | None = None
    """Use the cookies of a browser on this machine, such as `firefox` or `chrome:PROFILE`."""
    proxy: str | None = Field(None, repr=False)
    """For example `socks5://127.0.0.1:1080`; if it has a password, set HTTPS_PROXY instead."""
    user_agent: str | None = None
    """The User-Agent header, instead of that of a common browser."""
    js_runtimes: list[str] = ["deno", "node", "bun"]
    """JavaScript runtimes that yt-dlp may use for YouTube: NAME or NAME:PATH."""
    extractor_args: list[str] = Field([], repr=False)
    """As for yt-dlp's `--extractor-args`: `youtube:player_client=web;po_token=...`."""
    budget: BudgetConfig = BudgetConfig()
    policy: PolicyConfig = PolicyConfig()

    @field_validator("proxy")
    @classmethod
    def _proxy_can_be_used(cls, link: str | None) -> str | None:
        # not repeated in the message: it may contain a password
        scheme, separator, _ = (link or "").partition("://")
        if separator and scheme.lower() not in PROXIES:
            raise ValueError(
                f"must begin with one of {', '.join(f'{name}://' for name in PROXIES)}"
            )
        return link

    @field_validator("js_runtimes")
    @classmethod
    def _runtimes_are_known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name.partition(":")[0] not in JS_RUNTIMES:
                raise ValueError(f"{name!r} is not one of {', '.join(JS_RUNTIMES)}")
        return names

    @field_validator("extractor_args")
    @classmethod
    def _arguments_have_an_extractor(cls, arguments: list[str]) -> list[str]:
        # not repeated in the message: it may contain a token
        if not all(re.fullmatch(r"[\w-]+:[^=;]+=.*", text, re.DOTALL) for text in arguments):
            raise ValueError("each must look like EXTRACTOR:NAME=VALUE;NAME=VALUE")
        return arguments
