"""Settings of downloads: rates, the policy, and how a source is asked."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from dataminer.config.section import Section

PROXIES = ("http", "socks4", "socks4a", "socks5", "socks5h")  # that requests can go through
JS_RUNTIMES = ("deno", "node", "bun", "quickjs")  # those that yt-dlp knows


class HostRates(Section):
    """What all jobs of all nodes together may ask of any other one host."""

    requests_per_minute: int = Field(600, ge=1, le=60_000)
    """HTTP requests, spaced evenly."""
    downloads_per_hour: int = Field(36_000, ge=1, le=1_000_000)
    """Downloads that begin."""
    sleep_interval: float = Field(0.0, ge=0, le=86_400)
    """Least seconds from the begin of one download to that of the next."""
    max_sleep_interval: float = Field(0.0, ge=0, le=86_400)
    """Most of these seconds; drawn anew each time."""

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.max_sleep_interval < self.sleep_interval:
            raise ValueError("max_sleep_interval must not be below sleep_interval")
        return self


class YouTubeRates(HostRates):
    """What all jobs of all nodes together may ask of YouTube."""

    requests_per_minute: int = Field(30, ge=1, le=60_000)
    """HTTP requests for pages and formats, spaced evenly; those for media count apart."""
    media_requests_per_minute: int = Field(120, ge=1, le=60_000)
    """HTTP requests for media (googlevideo.com), in parts of 10 MB mostly."""
    downloads_per_hour: int = Field(240, ge=1, le=1_000_000)
    """Downloads that begin; a guest is said to be stopped after about 300 an hour."""
    sleep_interval: float = Field(10.0, ge=0, le=86_400)
    """Least seconds from the begin of one download to that of the next."""
    max_sleep_interval: float = Field(20.0, ge=0, le=86_400)
    """Most of these seconds; drawn anew each time."""


class BudgetConfig(Section):
    """Limits that all nodes share through the database, and pauses when a source refuses."""

    first_pause_seconds: float = Field(60.0, gt=0, le=86_400)
    """Pause of a source that refuses (429, "not a bot") unless it says how long; then doubled."""
    longest_pause_seconds: float = Field(3600.0, gt=0, le=86_400)
    """Pauses grow up to this, until the source answers again."""
    max_wait_minutes: float = Field(30.0, ge=0, le=1440)
    """A job that would wait longer than this gives its video back, to be tried again later."""
    youtube: YouTubeRates = YouTubeRates()
    others: HostRates = HostRates()

    @model_validator(mode="after")
    def _pauses_grow(self) -> BudgetConfig:
        if self.longest_pause_seconds < self.first_pause_seconds:
            raise ValueError("longest_pause_seconds must not be below first_pause_seconds")
        return self


class PolicyConfig(Section):
    """Which videos may be fetched at all; asked before a byte of one is, and of links only."""

    blocked_hashtags: list[str] = []
    """Refuse videos that carry one of these, with or without `#`, as a tag or in their texts."""
    blocked_titles: list[str] = []
    """Refuse titles in which one of these RE2 regular expressions is found; any case."""
    min_duration: float | None = Field(None, ge=0)
    """Refuse videos of fewer seconds."""
    max_duration: float | None = Field(None, gt=0)
    """Refuse videos of more seconds."""
    min_size_mb: float | None = Field(None, ge=0)
    """Refuse files of fewer megabytes (of 1,000,000 bytes)."""
    max_size_mb: float | None = Field(None, gt=0)
    """Refuse files of more megabytes (of 1,000,000 bytes)."""
    licences: list[str] = []
    """Refuse all other licences, and none: whole texts in any case, `*` for any characters."""

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
    """Compile an expression for titles, which strangers write: RE2's time is linear in them.

    Raises
    ------
    ValueError
        Where RE2 does not take it: a fault, or what only a search with backtracking can find.
    """
    import re2  # here: every command loads the settings, and few have patterns

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        if not pattern:
            raise re2.error("an empty one would refuse every title")
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(f"{pattern!r} is no RE2 regular expression: {reason}") from None


class DownloadConfig(Section):
    """How videos are fetched; shared by all projects of a store. See docs/youtube.md."""

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
            # not of a result, which stays when they change; of a refusal, which they undo
            "policy",
            "max_megapixels",
            "max_memory_mb",
        }
    )

    max_height: int = Field(1080, ge=144, le=4320)
    """Take the best video stream up to this many lines."""
    max_megapixels: float = Field(100.0, gt=0, le=178)
    """A video with larger pictures is FAILED; 12K has 75; see also `extract.max_megapixels`."""
    max_memory_mb: float = Field(256.0, ge=16)
    """A file whose index, attachments and cover take more MB of memory to read is FAILED."""
    concurrent_downloads: int = Field(8, ge=1, le=64)
    """How many videos are downloaded at once; how often, the budget below says."""
    retries: int = Field(3, ge=0, le=100)
    """How often yt-dlp itself tries a request again."""
    socket_timeout: float = Field(30.0, gt=0, le=600)
    """Seconds without a byte after which a connection counts as dead."""
    timeout_minutes: float = Field(60.0, gt=0, le=10080)
    """End an attempt at one video after so long; the next goes on where it stopped."""
    min_bytes_per_second: int = Field(1000, ge=0)
    """End a transfer that is slower than this over `rate_window_seconds`; 0 never does."""
    rate_window_seconds: float = Field(60.0, gt=0, le=3600)
    """How long a transfer may be too slow."""
    cookies: str | None = None
    """A cookies.txt file in Netscape format; it is only read."""
    cookies_from_browser: str | None = None
    """Take cookies from a browser of this machine: `firefox`, `chrome:PROFILE` and so on."""
    proxy: str | None = Field(None, repr=False)
    """Such as `socks5://127.0.0.1:1080`; with a password, rather set HTTPS_PROXY in the shell."""
    user_agent: str | None = None
    """What to call itself, instead of a common browser."""
    js_runtimes: list[str] = ["deno", "node", "bun"]
    """JavaScript runtimes that yt-dlp may use for YouTube, as NAME or NAME:PATH."""
    extractor_args: list[str] = Field([], repr=False)
    """As for yt-dlp's option of that name: `youtube:player_client=web;po_token=...`."""
    budget: BudgetConfig = BudgetConfig()
    policy: PolicyConfig = PolicyConfig()

    @field_validator("proxy")
    @classmethod
    def _proxy_can_be_used(cls, link: str | None) -> str | None:
        # not repeated in the message: it may hold a password
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
                raise ValueError(f"{name!r} is none of {', '.join(JS_RUNTIMES)}")
        return names

    @field_validator("extractor_args")
    @classmethod
    def _arguments_have_an_extractor(cls, arguments: list[str]) -> list[str]:
        # not repeated in the message: it may hold a token
        if not all(re.fullmatch(r"[\w-]+:[^=;]+=.*", text, re.DOTALL) for text in arguments):
            raise ValueError("each must look like EXTRACTOR:NAME=VALUE;NAME=VALUE")
        return arguments
