"""The report's section on what was lost, mended or converted while frames were extracted."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from markupsafe import Markup

from dataminer.frames.notes import in_order, note_kind
from dataminer.report.data.facts import VideoFacts
from dataminer.report.data.gather import Findings
from dataminer.report.html.markup import render
from dataminer.report.html.overview import empty_section

TITLE = "Losses and conversions"
_KINDS = 30  # a table of strangers may have any
_VIDEOS = 30  # of a kind; the rest is counted


def notes(found: Findings) -> Markup:
    """Return what was lost, mended or converted, counted, with the videos behind each kind."""
    frames = found.frames
    counted = sum(count > 0 for count in frames.extracted.values()) - frames.without_notes
    if not frames.notes and not frames.without_notes:
        message = f"Nothing was lost, mended or converted in the frames of {counted:,} videos."
        return empty_section("notes", TITLE, message)
    by_kind: dict[str, list[tuple[int, VideoFacts]]] = defaultdict(list)
    for video in found.facts.videos:
        for name, count in frames.notes.get(video.video_id, {}).items():
            if count:
                by_kind[name].append((count, video))
    names = in_order(by_kind)
    kinds = [_kind(name, by_kind[name]) for name in names[:_KINDS]]
    groups = [
        ("Lost, or mended by a guess", [kind for kind in kinds if kind["is_warning"]]),
        ("Converted", [kind for kind in kinds if not kind["is_warning"]]),
    ]
    return render(
        "notes",
        title=TITLE,
        counted=counted,
        having=len(frames.notes),
        without=frames.without_notes,
        groups=[(name, listed) for name, listed in groups if listed],
        more=len(names) - len(kinds),
    )


def _kind(name: str, videos: list[tuple[int, VideoFacts]]) -> dict[str, Any]:
    kind, total = note_kind(name), sum(count for count, _ in videos)
    most_first = sorted(videos, key=lambda pair: -pair[0])  # and by id, in which order they come
    return {
        "is_warning": kind.is_warning,
        "count": total,
        "words": kind.words(total),
        "videos": len(videos),
        "rows": [(video, count) for count, video in most_first[:_VIDEOS]],
    }
