"""What was lost, mended or converted while the frames of a video were extracted.

Notes count, by kind; tables carry them as ``notes``, and rows of videos, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NoteKind:
    """One kind of note."""

    one: str
    """The sentence about one, without the number in front of it."""
    many: str
    """The sentence about several."""
    is_warning: bool = True
    """Whether something was lost or derived; otherwise, all is as it should be."""

    def words(self, count: int) -> str:
        """Return the sentence about a number of packets, frames or the like, without the number."""
        return self.one if count == 1 else self.many

    def sentence(self, count: int) -> str:
        """Return the sentence about a number of packets, frames or the like."""
        return f"{count:,} {self.words(count)}"


def _kind(noun: str, one: str, many: str = "", *, is_warning: bool = True) -> NoteKind:
    return NoteKind(f"{noun} {one}", f"{noun}s {many or one}", is_warning)


NOTE_KINDS: Mapping[str, NoteKind] = {
    "truncated": _kind(
        "video", "ends earlier than its file says", "end earlier than their files say"
    ),
    "refused_packets": _kind("packet", "could not be decoded"),
    "lost_packets": _kind("packet", "gave no frame"),
    "missing_frames": _kind(
        "frame",
        "is missing where the time stamps leave a gap",
        "are missing where the time stamps leave gaps",
    ),
    "long_gaps": _kind(
        "gap",
        "of a second or more: one frame is shown for long, or others are missing",
        "of a second or more: one frame is shown for long, or others are missing",
        is_warning=False,
    ),
    "late_start": _kind(
        "second",
        "passes before the first frame: it begins late, or its beginning is missing",
        "pass before the first frame: it begins late, or its beginning is missing",
        is_warning=False,
    ),
    "absent_frames": _kind(
        "frame",
        "is declared, but not in the file",
        "are declared, but not in the file",
    ),
    "unread_parts": _kind("part", "of the file could not be read"),
    "unread_files": _kind(
        "file",
        "that is joined to the end of the first one was not read",
        "that are joined to the end of the first one were not read",
    ),
    "damaged_frames": _kind(
        "frame",
        "may be damaged: what it refers to is lost or broken",
        "may be damaged: what they refer to is lost or broken",
    ),
    "derived_stamps": _kind(
        "frame",
        "had no right time stamp: it was derived",
        "had no right time stamps: they were derived",
    ),
    "stray_stamps": _kind(
        "frame",
        "had a stray time stamp, far from its neighbours'",
        "had stray time stamps, far from their neighbours'",
    ),
    "joined_parts": _kind(
        "jump", "of the time stamps was closed", "of the time stamps were closed"
    ),
    "assumed_matrices": _kind(
        "frame", "has a colour matrix that was assumed", "have a colour matrix that was assumed"
    ),
    "tone_mapped": _kind(
        "frame", "was tone-mapped from HDR", "were tone-mapped from HDR", is_warning=False
    ),
    "deinterlaced": _kind("frame", "was deinterlaced", "were deinterlaced", is_warning=False),
    "squared": _kind(
        "frame", "was scaled to square pixels", "were scaled to square pixels", is_warning=False
    ),
    "cropped": _kind(
        "frame", "was cropped as the file says", "were cropped as the file says", is_warning=False
    ),
    "flattened": _kind(
        "frame",
        "was transparent in parts: black shows through",
        "were transparent in parts: black shows through",
        is_warning=False,
    ),
}
"""Every kind, in the order in which they are shown."""


def warnings(notes: Mapping[str, int]) -> list[str]:
    """Return a sentence for each kind that is a warning; ``truncated`` has a better one."""
    return [
        kind.sentence(notes[name])
        for name, kind in NOTE_KINDS.items()
        if kind.is_warning and name != "truncated" and notes.get(name)
    ]


def note_kind(name: str) -> NoteKind:
    """Return a kind; of one that only a newer version knows, nothing but its name is known."""
    words = f"{name.replace('_', ' ')} (a kind that this version does not know)"
    return NOTE_KINDS.get(name) or NoteKind(words, words)


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of kinds in the order in which they are shown: warnings first."""
    known = list(NOTE_KINDS)

    def rank(name: str) -> tuple[bool, int, str]:
        position = known.index(name) if name in NOTE_KINDS else len(known)
        return not note_kind(name).is_warning, position, name

    return sorted(names, key=rank)


def sentences(notes: Mapping[str, int]) -> list[str]:
    """Return a sentence for each kind, warnings first."""
    return [note_kind(name).sentence(notes[name]) for name in in_order(notes) if notes[name]]


def without_warnings(notes: Mapping[str, int]) -> dict[str, int]:
    """Return the notes about which a video's ``warning`` says nothing."""
    return {
        name: count
        for name, count in notes.items()
        if name not in NOTE_KINDS or not NOTE_KINDS[name].is_warning
    }
