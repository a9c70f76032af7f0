"""What the policy refuses, what it cannot judge, and what it lets through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataminer.config import load
from dataminer.config.models import PolicyConfig
from dataminer.errors import ConfigError, PermanentError, UncheckedError
from dataminer.stages.download.policy import judge, judge_size

KNOWN: dict[str, Any] = {
    "id": "aqz-KE-bpKQ",
    "extractor": "youtube",
    "title": "Birds of the North #Nature",
    "description": "A film. #slow #4K",
    "tags": ["Birds", "Wild Life"],
    "uploader": "Someone",
    "duration": 60,
    "license": "Creative Commons Attribution licence (reuse allowed)",
    "filesize": 5_000_000,
}
ALL: dict[str, Any] = {
    "blocked_hashtags": ["spam"],
    "blocked_titles": ["forbidden"],
    "min_duration": 10,
    "max_duration": 3600,
    "min_size_mb": 1,
    "max_size_mb": 1000,
    "licences": ["Creative Commons*"],
}
UNWANTED: list[dict[str, Any]] = [
    {"tags": ["Spam"]},
    {"title": "Forbidden"},
    {"duration": 9.9},
    {"duration": 3600.1},
    {"filesize": 999_999},
    {"filesize": 1_000_000_001},
    {"license": "All rights reserved"},
]
FILE = {"id": "x", "extractor": "generic", "title": "x", "direct": True}


def verdict(info: dict[str, Any], **policy: Any) -> str:
    try:
        judge(info, PolicyConfig(**policy), "the video")
    except PermanentError as error:
        assert error.message.startswith("the video: ")
        return str(error.error_class)
    except UncheckedError:
        return "unchecked"
    return "passes"


@pytest.mark.parametrize(
    ("policy", "changed", "expected"),
    [
        ({}, {}, "passes"),
        ({}, dict.fromkeys(KNOWN), "passes"),  # nothing is asked for
        ({"blocked_hashtags": ["#SLOW"]}, {}, "policy"),
        ({"blocked_hashtags": ["nature"]}, {}, "policy"),
        ({"blocked_hashtags": ["birds"]}, {}, "policy"),
        ({"blocked_hashtags": ["bird", "life", "north"]}, {}, "passes"),
        ({"blocked_hashtags": ["slow"]}, {"description": "", "tags": []}, "passes"),
        ({"blocked_hashtags": ["slow"]}, {"description": None}, "unchecked"),
        ({"blocked_hashtags": ["nature"]}, {"description": None}, "policy"),
        ({"blocked_hashtags": ["slow"]}, {"description": None, "extractor": "vimeo"}, "passes"),
        ({"blocked_titles": ["birds? of"]}, {}, "policy"),
        ({"blocked_titles": ["^north"]}, {}, "passes"),
        ({"blocked_titles": ["x"]}, {"title": None}, "unchecked"),
        ({"blocked_titles": ["x"]}, {"title": "youtube video #aqz-KE-bpKQ"}, "unchecked"),
        ({"min_duration": 61}, {}, "policy"),
        ({"min_duration": 60, "max_duration": 60}, {}, "passes"),
        ({"max_duration": 59.5}, {}, "policy"),
        ({"max_duration": 59.5}, {"duration": None}, "unchecked"),
        ({"min_duration": 0}, {"duration": None}, "unchecked"),
        ({"min_size_mb": 5.1}, {}, "policy"),
        ({"min_size_mb": 5, "max_size_mb": 5}, {}, "passes"),
        ({"max_size_mb": 4.9}, {}, "policy"),
        ({"max_size_mb": 4.9}, {"filesize": None}, "passes"),  # the server will declare it
        ({"min_size_mb": 1, "max_size_mb": 8_000}, {"filesize": 7_999_999_999}, "passes"),
        ({"min_size_mb": 1, "max_size_mb": 8_000}, {"filesize": 8_000_000_001}, "policy"),
        ({"min_size_mb": 1, "max_size_mb": 8_000}, {"filesize": 999_999}, "policy"),
        ({"min_duration": 60, "max_duration": 14_400}, {"duration": 14_400}, "passes"),
        ({"min_duration": 60, "max_duration": 14_400}, {"duration": 14_401}, "policy"),
        ({"blocked_titles": ["^north", "spam"]}, {"title": "Nor th, or Spa m"}, "passes"),
        ({"blocked_titles": ["spam", "x"]}, {"title": "SPAM"}, "policy"),
        ({"licences": ["creative commons attribution*"]}, {}, "passes"),
        ({"licences": ["CC0", " *(reuse allowed) "]}, {}, "passes"),
        ({"licences": ["CC0", "CC BY *"]}, {"license": "cc by 4.0"}, "passes"),
        ({"licences": ["CC BY"]}, {"license": "CC BY-NC"}, "policy"),
        ({"licences": ["CC0"]}, {}, "policy"),
        ({"licences": ["Creative Commons"]}, {}, "policy"),  # whole texts
        ({"licences": ["*"]}, {"license": None}, "policy"),  # a page that was read and names none
        ({"licences": ["*"]}, {"license": None, "uploader": None}, "unchecked"),
        # a definite no goes before a check that cannot be made
        ({"max_duration": 1, "licences": ["CC0"]}, {"duration": None}, "policy"),
        ({}, {"is_live": True}, "live"),
        ({}, {"live_status": "is_upcoming"}, "live"),
        ({}, {"live_status": "post_live"}, "live"),
        ({}, {"live_status": "was_live"}, "passes"),
        ({}, {"live_status": "not_live", "is_live": False}, "passes"),
        # what is asked for is all there
        (ALL, {}, "passes"),
        *((ALL, changed, "policy") for changed in UNWANTED),
    ],
)
def test_verdicts(policy: dict[str, Any], changed: dict[str, Any], expected: str) -> None:
    assert verdict({**KNOWN, **changed}, **policy) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"max_duration": 10}, "unchecked"),
        ({"licences": ["CC*"]}, "policy"),  # a bare file has no page that could name one
        ({"blocked_hashtags": ["x"]}, "passes"),
    ],
)
def test_a_bare_file(policy: dict[str, Any], expected: str) -> None:
    assert verdict(FILE, **policy) == expected


@pytest.mark.parametrize(
    ("size", "part", "all_of_it"),
    [
        (None, "passes", "passes"),
        (0, "passes", "policy"),
        (1_999_999, "passes", "policy"),
        (2_000_000, "passes", "passes"),
        (3_000_000, "passes", "passes"),
        (3_000_001, "policy", "policy"),
    ],
)
def test_a_size_that_is_not_whole_may_still_grow(
    size: int | None, part: str, all_of_it: str
) -> None:
    def of(**whole: bool) -> str:
        try:
            judge_size(size, PolicyConfig(min_size_mb=2, max_size_mb=3), "x", **whole)
        except PermanentError as error:
            return str(error.error_class)
        return "passes"

    assert (of(whole=False), of(whole=True), of()) == (part, all_of_it, all_of_it)


def test_a_pattern_that_would_search_for_ever_elsewhere_is_linear() -> None:
    assert verdict({**KNOWN, "title": "a" * 900 + "!"}, blocked_titles=["(a+)+$"]) == "passes"


@given(st.text(max_size=60), st.lists(st.text(max_size=20), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_text_of_strangers_ends_in_a_verdict(text: str, tags: list[str]) -> None:
    info = {**KNOWN, "title": text, "description": text, "tags": tags, "license": text}
    found = verdict(info, blocked_titles=["(x|y)+"], blocked_hashtags=["x"], licences=["CC*"])
    assert found in {"passes", "policy", "unchecked"}


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"blocked_titles": ["("]}, "'(' is not a valid RE2 regular expression: missing )"),
        ({"blocked_titles": [r"(a)\1"]}, "invalid escape sequence"),
        ({"blocked_titles": [""]}, "an empty expression would refuse every title"),
        ({"blocked_hashtags": ["#"]}, "an empty entry"),
        ({"licences": [" "]}, "an empty entry"),
        ({"min_duration": 5, "max_duration": 4}, "min_duration must not be above max_duration"),
        ({"min_size_mb": 5, "max_size_mb": 4}, "min_size_mb must not be above max_size_mb"),
        ({"max_duratoin": 4}, "did you mean `max_duration`"),
    ],
)
def test_what_the_configuration_does_not_take(policy: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"download": {"policy": policy}})
    assert sentence in str(caught.value)
    assert "download.policy" in str(caught.value)
