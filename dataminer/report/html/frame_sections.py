"""The report's sections on frames: quality, what was left out, what was merged, what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from dataminer.formats.contact_sheet import COLOURS
from dataminer.report.data.excluded import ReferencePair
from dataminer.report.data.facts import ProjectFacts
from dataminer.report.data.frames import Shot
from dataminer.report.data.gather import Findings
from dataminer.report.data.near_duplicates import Group, NearDuplicates
from dataminer.report.data.objects import AnnotatedFrame, Objects
from dataminer.report.html import charts
from dataminer.report.html.markup import render
from dataminer.report.html.overview import empty_section, not_run, plot
from dataminer.report.html.thumbs import Thumbnails
from dataminer.text import cut

_CLASSES = 40
_BOXES = 40  # drawn in one picture, those with the highest scores
_MODEL = 200  # characters of a model's name in a sentence
_CLASSES_NAMED = 400  # characters of the classes in a picture, for screen readers
_LABEL = 24  # characters of a class in a picture
_SMALL, _MIDDLE, _LARGE = 200, 260, 380  # pixels
_WORDS = {
    "sharpness": "ratio of fine to coarse detail",
    "brightness": "mean grey level: 0 black, 1 white",
    "contrast": "standard deviation of grey levels",
    "entropy": "entropy of the grey levels, in bits",
    "black": "share of dark pixels",
    "blank": "share of the picture that is empty",
    "border": "share of black bars",
    "flash": "how much a flash brightens the frame",
    "change": "difference from the previous frame",
    "text_area": "share of the picture that text covers",
}


# ---- quality -----------------------------------------------------------------------------------


def quality(found: Findings) -> Markup:
    """Return the distributions of quality and scores, with thresholds."""
    plots = []
    for name, values in found.frames.columns.items():
        limits = {limit.partition("_")[0]: value for limit, value in values.limits.items()}
        count = len(values.kept) + len(values.dropped)
        words = ", ".join(f"{limit} {charts.short(value)}" for limit, value in limits.items())
        label = f"{name} of {count:,} frames; thresholds: {words or 'none'}"
        chart = charts.histogram(values.kept, values.dropped, label=label, limits=limits)
        plots.append(plot(name, chart, _WORDS.get(name, "score")))
    return render("quality", charts=plots)


def left_out(found: Findings, thumbs: Thumbnails) -> Markup:
    """Return examples of dropped frames, by the reason that came first."""
    reasons, frames = found.frames.reasons, found.frames
    judged = sum(frames.extracted[video_id] for video_id in frames.passed)
    if not reasons:
        return empty_section("dropped", "Left out", f"None of {judged:,} frames was left out.")
    bars = [(reason, count, f"{count:,} frames", "bad") for reason, count in reasons.most_common()]
    strips = [
        (reason, count, [_frame(shot, found.facts, thumbs) for shot in frames.dropped[reason]])
        for reason, count in reasons.most_common()
    ]
    return render(
        "dropped",
        dropped=reasons.total(),
        judged=judged,
        chart=charts.bars(bars, "frames by reason"),
        reasons=strips,
    )


# ---- near-duplicates ---------------------------------------------------------------------------


def merged(found: Findings, thumbs: Thumbnails) -> Markup:
    """Return which frames represent which."""
    groups = found.merged
    if groups is None:
        return empty_section("merged", "Near-duplicates", not_run(found, "Dedup"))
    kinds = [
        ("The largest groups", groups.largest),
        ("The boldest merges: the least similar frames that count as duplicates", groups.boldest),
    ]
    return render(
        "merged",
        merged=groups,
        charts=_group_plots(groups),
        kinds=[
            (title, [_group(group, found.facts, thumbs) for group in listed])
            for title, listed in kinds
            if listed
        ],
    )


def _group_plots(groups: NearDuplicates) -> list[dict[str, Any]]:
    limits = {} if groups.threshold is None else {"threshold": float(groups.threshold)}
    sizes = f"sizes of {groups.unique:,} groups of near-duplicates"
    unit = "bits" if groups.by_hash else "1 - cosine"
    return [
        plot("frames that one represents", charts.histogram(groups.sizes, label=sizes, whole=True)),
        plot(
            f"{unit} to the kept frame",
            charts.histogram(
                groups.distances,
                label="distances of merged frames",
                limits=limits,
                whole=groups.by_hash,
            ),
        ),
    ]


def _group(group: Group, facts: ProjectFacts, thumbs: Thumbnails) -> dict[str, Any]:
    source = "" if group.videos == 1 else f", from {group.videos:,} videos"
    plural = "" if group.size == 1 else "s"
    return {
        "words": f"represents {group.size:,} other{plural}{source}, at most {group.farthest} away",
        "kept": _frame(group.kept, facts, thumbs, _MIDDLE),
        "merged": [_frame(shot, facts, thumbs, named=False) for shot in group.merged],
    }


def excluded(found: Findings, thumbs: Thumbnails) -> Markup:
    """Return which frames are near which reference pictures; nothing if there are none."""
    left = found.excluded
    if left is None:
        return Markup()
    bars = [(entry, count, f"{count:,} frames", "bad") for entry, count in left.by_entry]
    return render(
        "excluded",
        excluded=left,
        chart=charts.bars(bars, "frames by entry of dedup.exclude"),
        pairs=[
            [_frame(pair.frame, found.facts, thumbs), _reference(pair, thumbs)]
            for pair in left.pairs
        ],
    )


def _reference(pair: ReferencePair, thumbs: Thumbnails) -> dict[str, Any]:
    note = "mirrored" if pair.mirrored else ""
    title = f"{pair.given}: {pair.name}"
    uri = thumbs.of(pair.read, _SMALL)
    return {"uri": uri, "alt": title, "title": title, "name": pair.name, "time": "", "note": note}


# ---- objects -----------------------------------------------------------------------------------


def objects(found: Findings, thumbs: Thumbnails) -> Markup:
    """Return what was found: counts, sizes, places, and frames with boxes."""
    detected = found.objects
    if detected is None:
        return empty_section("objects", "Objects", not_run(found, "Detect"))
    return render(
        "objects",
        objects=len(detected.boxes),
        having=int((detected.per_frame > 0).sum()),
        frames=len(detected.per_frame),
        model=cut(str(detected.info.get("model", "the model")), _MODEL),
        classes=charts.bars(_classes(detected), "objects by class"),
        charts=_object_plots(detected),
        examples=[
            _example(drawn, detected.names, found.facts, thumbs) for drawn in detected.examples
        ],
    )


def _classes(detected: Objects) -> list[tuple[str, float, str, str]]:
    counted = detected.per_class.most_common()
    rows: list[tuple[str, float, str, str]] = [
        (detected.names.get(number, str(number)), count, f"{count:,}", colour(number))
        for number, count in counted[:_CLASSES]
    ]
    if rest := sum(count for _, count in counted[_CLASSES:]):
        rows.append((f"{len(counted) - _CLASSES} more classes", rest, f"{rest:,}", "rest"))
    never = sorted(set(detected.names) - set(detected.per_class))
    if never and len(never) <= _CLASSES:
        rows += [(detected.names[number], 0, "none", colour(number)) for number in never]
    return rows


def colour(category_id: int) -> str:
    """Return the colour of a class, the contact sheet's."""
    return COLOURS[(category_id - 1) % len(COLOURS)]


def _object_plots(detected: Objects) -> list[dict[str, Any]]:
    boxes, count = detected.boxes, len(detected.boxes)
    confidence = detected.info.get("confidence")
    limits = {"confidence": float(confidence)} if isinstance(confidence, (int, float)) else {}
    shares = np.sqrt(boxes[:, 2] * boxes[:, 3])
    per_video = [detected.per_video[video_id] for video_id in detected.images]
    drawn = {
        "score": charts.histogram(
            detected.scores, label=f"scores of {count:,} objects", limits=limits, high=1.0
        ),
        "objects per frame": charts.histogram(
            detected.per_frame, label="objects per frame", whole=True
        ),
        "side of a box as a share of the picture's": charts.histogram(
            shares, label="sizes of boxes, as shares of the picture", low=0.0
        ),
        "centres of boxes": charts.heat(
            boxes[:, 0], boxes[:, 1], "centres of boxes in the picture"
        ),
        "width (across) and height (up) of boxes": charts.heat(
            boxes[:, 2], boxes[:, 3], "widths and heights of boxes", upward=True
        ),
        "objects per video": charts.histogram(
            np.array(per_video, np.int64), label="objects per video", whole=True
        ),
    }
    return [plot(name, chart) for name, chart in drawn.items()]


def _example(
    drawn: AnnotatedFrame, names: dict[int, str], facts: ProjectFacts, thumbs: Thumbnails
) -> dict[str, Any]:
    classes = ", ".join(sorted({names.get(box["category_id"], "?") for box in drawn.boxes}))
    count, size = len(drawn.boxes), drawn.height / 17
    note = f"{count} object{'' if count == 1 else 's'}" if count else "nothing found"
    shot, uri = drawn.shot, thumbs.of_dataset(facts.project, drawn, _LARGE)
    return {
        "uri": uri,
        "alt": f"{_where(shot)}: {cut(classes, _CLASSES_NAMED) or 'no objects'}",
        **_caption(facts.names.get(shot.video_id, shot.video_id), shot),
        "note": f"{_BOXES} of {note}" if count > _BOXES else note,
        "width": drawn.width,
        "height": drawn.height,
        "font_size": size,
        # the highest score last, so that it is on top
        "boxes": [_box(box, names, size) for box in reversed(drawn.boxes[:_BOXES])],
    }


def _box(box: dict[str, Any], names: dict[int, str], size: float) -> dict[str, Any]:
    x, y, width, height = (float(value) for value in box["bbox"])
    name = names.get(box["category_id"], "?")
    return {
        "colour": colour(box["category_id"]),
        "title": f"{name} {box['score']:.2f}" if "score" in box else name,
        "label": cut(name, _LABEL),
        "label_y": y - 0.3 * size if y > 1.2 * size else y + height + size,
        **{"x": x, "y": y, "width": width, "height": height},
    }


# ---- frames ------------------------------------------------------------------------------------


def _frame(
    shot: Shot, facts: ProjectFacts, thumbs: Thumbnails, width: int = _SMALL, *, named: bool = True
) -> dict[str, Any]:
    """Return a frame and its caption, for the template."""
    name = facts.names.get(shot.video_id, shot.video_id) if named else ""
    return {"uri": thumbs.of_video(shot, width), "alt": _where(shot), **_caption(name, shot)}


def _caption(name: str, shot: Shot) -> dict[str, str]:
    time = clock(shot.pts_time)
    return {"name": name, "time": time, "title": f"{name} {time}".strip(), "note": shot.note}


def _where(shot: Shot) -> str:
    return f"{shot.video_id} at {clock(shot.pts_time)}"


def clock(seconds: float) -> str:
    """Return a time in a video as minutes and seconds."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
