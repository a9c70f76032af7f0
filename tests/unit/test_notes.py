"""Notes on what was lost, mended or converted, and the words for them."""

from __future__ import annotations

import pytest

from dataminer.frames.notes import (
    NOTE_KINDS,
    in_order,
    note_kind,
    sentences,
    warnings,
    without_warnings,
)

NOTES = {"tone_mapped": 340, "torn_slices": 2, "refused_packets": 1, "truncated": 1}


def test_warnings_come_first_then_what_is_unknown_then_conversions() -> None:
    assert in_order(NOTES) == ["truncated", "refused_packets", "torn_slices", "tone_mapped"]
    assert set(in_order(NOTE_KINDS)) == set(NOTE_KINDS)


def test_each_kind_has_a_sentence_and_a_kind_of_a_newer_version_its_name() -> None:
    assert sentences(NOTES) == [
        "1 video ends earlier than its file says",
        "1 packet could not be decoded",
        "2 torn slices (a kind that this version does not know)",
        "340 frames were tone-mapped from HDR",
    ]
    assert sentences({"tone_mapped": 0}) == []


@pytest.mark.parametrize("name", [*NOTE_KINDS, "torn_slices"])
def test_a_note_is_in_the_warning_or_said_beside_it(name: str) -> None:
    in_warning = bool(warnings({name: 3})) or name == "truncated"
    assert bool(without_warnings({name: 3})) is not in_warning
    assert note_kind(name).is_warning or name in without_warnings({name: 3})
