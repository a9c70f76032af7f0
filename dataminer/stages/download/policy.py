"""The user's policy, applied to a video's metadata before a byte of it is fetched.

A check has three outcomes. The video passes; it is refused for good, as POLICY (or LIVE, which no
setting allows); or the check is impossible because the site did not provide what it needs. The
latter refuses the video too, as :class:`~dataminer.errors.UncheckedError`, which is retried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from dataminer.config.models import PolicyConfig, compile_title
from dataminer.errors import ErrorClass, PermanentError, UncheckedError
from dataminer.text import clean, cut

MEGABYTE = 1_000_000
_HASHTAG = re.compile(r"[#＃](\w+)")
_MAX_TITLE = 1000  # YouTube's have 100 characters at most
_MAX_TEXT = 20_000  # YouTube's descriptions have 5,000
_MAX_QUOTED = 80
_NOT_ENDED = {
    "is_live": "is a live stream that is still running",
    "is_upcoming": "has not started",
    "post_live": "is a live stream that has just ended and is not available yet",
}

Info = dict[str, Any]


def judge(info: Info, policy: PolicyConfig, label: str) -> None:
    """Refuse a video that the policy does not allow, or that is not a finished video.

    Parameters
    ----------
    info : dict
        What yt-dlp knows about it.
    policy : PolicyConfig
        What is allowed.
    label : str
        The video's name in messages.

    Raises
    ------
    PermanentError
        POLICY, or LIVE.
    UncheckedError
        If a check was impossible and no other check refused the video.
    """
    _refuse_live(info, label)
    missing = []
    for check in (_title, _hashtags, _duration, _licence):
        reason, unknown = check(info, policy)
        if reason:
            raise refusal(label, reason)
        missing += [unknown] if unknown else []
    judge_size(info.get("filesize"), policy, label)
    if missing:
        message = f"{label}: the policy cannot be checked without {', '.join(missing)}"
        raise UncheckedError(message)


def judge_size(size: int | None, policy: PolicyConfig, label: str, *, whole: bool = True) -> None:
    """Refuse a file that is too large or too small; an unknown size passes.

    If ``whole`` is False, ``size`` is only what has arrived so far. The size is checked again when
    the server declares it, while bytes arrive, and when all have arrived, so it is always checked.

    Raises
    ------
    PermanentError
        POLICY.
    """
    if size is None:
        return
    if policy.max_size_mb is not None and size > policy.max_size_mb * MEGABYTE:
        raise refusal(label, f"more than max_size_mb ({policy.max_size_mb:g})")
    if whole and policy.min_size_mb is not None and size < policy.min_size_mb * MEGABYTE:
        raise refusal(label, f"less than min_size_mb ({policy.min_size_mb:g})")


def refusal(label: str, reason: str) -> PermanentError:
    """Return the error for a video that the policy refuses."""
    return PermanentError(f"{label}: refused by the policy: {reason}", ErrorClass.POLICY)


def _refuse_live(info: Info, label: str) -> None:
    status = info.get("live_status") or ("is_live" if info.get("is_live") else "")
    if status in _NOT_ENDED:
        raise PermanentError(f"{label}: {_NOT_ENDED[status]}", ErrorClass.LIVE)


# ---- each check returns a reason to refuse (or nothing), and what it lacks (or nothing) -------


def _title(info: Info, policy: PolicyConfig) -> tuple[str, str]:
    if not policy.blocked_titles:
        return "", ""
    title = info.get("title")
    # yt-dlp makes up a title if a site provides none
    made_up = f"{str(info.get('extractor')).replace(':', '-')} video #{info.get('id')}"
    if not title or title == made_up:
        return "", "the title"
    text = str(title)[:_MAX_TITLE]
    for pattern in policy.blocked_titles:
        if compile_title(pattern).search(text):
            return f"its title matches {_short(pattern)}", ""
    return "", ""


def _hashtags(info: Info, policy: PolicyConfig) -> tuple[str, str]:
    if not policy.blocked_hashtags:
        return "", ""
    blocked = {tag.strip().lstrip("#").casefold() for tag in policy.blocked_hashtags}
    found = sorted(blocked & set(_tags_of(info)))
    if found:
        return f"it has the hashtag #{_short(found[0])}", ""
    # every YouTube video has a description, even if it is empty
    unread = info.get("extractor") == "youtube" and info.get("description") is None
    return "", "the description" if unread else ""


def _tags_of(info: Info) -> Iterator[str]:
    for tag in info.get("tags") or ():
        yield str(tag).strip().lstrip("#").casefold()
    for key in ("title", "description"):
        for match in _HASHTAG.finditer(str(info.get(key) or "")[:_MAX_TEXT]):
            yield match[1].casefold()


def _duration(info: Info, policy: PolicyConfig) -> tuple[str, str]:
    if policy.min_duration is None and policy.max_duration is None:
        return "", ""
    duration = info.get("duration")
    if not isinstance(duration, int | float):
        return "", "the duration"
    if policy.max_duration is not None and duration > policy.max_duration:
        return f"{duration:g} s is more than max_duration ({policy.max_duration:g})", ""
    if policy.min_duration is not None and duration < policy.min_duration:
        return f"{duration:g} s is less than min_duration ({policy.min_duration:g})", ""
    return "", ""


def _licence(info: Info, policy: PolicyConfig) -> tuple[str, str]:
    if not policy.licences:
        return "", ""
    licence = str(info.get("license") or "").strip()[:_MAX_TITLE]
    if licence:
        patterns = (pattern.strip().casefold() for pattern in policy.licences)
        allowed = any(fnmatchcase(licence.casefold(), pattern) for pattern in patterns)
        return "" if allowed else f"its licence is {_short(licence)}", ""
    # A page that was read and names no licence grants none, like YouTube's standard licence. A
    # plain file has no page. If nothing is known about the uploader, the page was not read.
    read = info.get("direct") or info.get("uploader") or info.get("channel")
    return ("it states no licence", "") if read else ("", "the licence")


def _short(text: str) -> str:
    return cut(clean(text, 2 * _MAX_QUOTED), _MAX_QUOTED)
