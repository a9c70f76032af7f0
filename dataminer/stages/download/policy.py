"""The user's policy: judged on what a site says of a video, before a byte of it is fetched.

A check ends in one of three ways. It passes; it refuses for good, as POLICY (or LIVE, which no
setting lets in); or it cannot be made because the site did not say what it needs, which lets
nothing through either: :class:`~dataminer.errors.UncheckedError`, tried again.
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
_MAX_SHOWN = 80
_NOT_ENDED = {
    "is_live": "is a live stream that goes on",
    "is_upcoming": "has not begun",
    "post_live": "is a live stream that has just ended, and is not ready",
}

Info = dict[str, Any]


def judge(info: Info, policy: PolicyConfig, shown: str) -> None:
    """Refuse a video that the policy does not want, or that is no finished video.

    Parameters
    ----------
    info : dict
        What yt-dlp has found out about it.
    policy : PolicyConfig
        What is wanted.
    shown : str
        How to name the video in messages.

    Raises
    ------
    PermanentError
        POLICY, or LIVE.
    UncheckedError
        When a check could not be made. A definite no goes first.
    """
    _refuse_live(info, shown)
    missing = []
    for check in (_title, _hashtags, _duration, _licence):
        reason, unknown = check(info, policy)
        if reason:
            raise refusal(shown, reason)
        missing += [unknown] if unknown else []
    judge_size(info.get("filesize"), policy, shown)
    if missing:
        message = f"{shown}: the policy cannot be checked: {', '.join(missing)} not known"
        raise UncheckedError(message)


def judge_size(size: int | None, policy: PolicyConfig, shown: str, *, whole: bool = True) -> None:
    """Refuse a file that is too large or too small; a size that is not known yet passes.

    With ``whole`` False, ``size`` is only what has come so far. The size is judged again when the
    server declares it, while the bytes come, and when they are all there: it never goes unchecked.

    Raises
    ------
    PermanentError
        POLICY.
    """
    if size is None:
        return
    if policy.max_size_mb is not None and size > policy.max_size_mb * MEGABYTE:
        raise refusal(shown, f"more than max_size_mb ({policy.max_size_mb:g})")
    if whole and policy.min_size_mb is not None and size < policy.min_size_mb * MEGABYTE:
        raise refusal(shown, f"less than min_size_mb ({policy.min_size_mb:g})")


def refusal(shown: str, reason: str) -> PermanentError:
    """Return the error for a video that the policy refuses."""
    return PermanentError(f"{shown}: refused by the policy: {reason}", ErrorClass.POLICY)


def _refuse_live(info: Info, shown: str) -> None:
    status = info.get("live_status") or ("is_live" if info.get("is_live") else "")
    if status in _NOT_ENDED:
        raise PermanentError(f"{shown}: {_NOT_ENDED[status]}", ErrorClass.LIVE)


# ---- each check: why not (or nothing), and what it lacks (or nothing) --------------------------


def _title(info: Info, policy: PolicyConfig) -> tuple[str, str]:
    if not policy.blocked_titles:
        return "", ""
    title = info.get("title")
    # yt-dlp writes a title of its own where a site gives none
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
        return f"it carries #{_short(found[0])}", ""
    # every video of YouTube has a description, be it an empty one
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
        wanted = (pattern.strip().casefold() for pattern in policy.licences)
        allowed = any(fnmatchcase(licence.casefold(), pattern) for pattern in wanted)
        return "" if allowed else f"its licence is {_short(licence)}", ""
    # A page that was read and names none grants none, as YouTube's standard licence, and a bare
    # file has no page. Where nothing at all is known of the uploader, the page was not read.
    read = info.get("direct") or info.get("uploader") or info.get("channel")
    return ("it states no licence", "") if read else ("", "the licence")


def _short(text: str) -> str:
    return cut(clean(text, 2 * _MAX_SHOWN), _MAX_SHOWN)
