"""The report's sections on frames: quality, what was left out, what was merged, what was found."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataminer.formats.contact_sheet import COLOURS
from dataminer.report.data.facts import Facts
from dataminer.report.data.frames import Shot
from dataminer.report.data.gather import Findings
from dataminer.report.data.near_duplicates import Group
from dataminer.report.data.objects import Drawn, Objects
from dataminer.report.html import charts
from dataminer.report.html.markup import Html, join, tag
from dataminer.report.html.overview import not_run, section
from dataminer.report.html.thumbs import Thumbnails
from dataminer.text import cut

_CLASSES = 40
_BOXES = 40  # drawn in one picture, the surest
_MODEL = 200  # characters of a model's name in a sentence
_CLASSES_TOLD = 400  # characters of the classes in a picture, for those who do not see it
_LABEL = 24  # characters of a class in a picture
_SMALL, _MIDDLE, _LARGE = 200, 260, 380  # pixels
_WORDS = {
    "sharpness": "share of coarse detail that is there finely too",
    "brightness": "mean grey, 0 black, 1 white",
    "contrast": "standard deviation of grey",
    "entropy": "bits of information in a grey level",
    "black": "share of dark pixels",
    "blank": "share of the picture with nothing in it",
    "border": "share that black bars take",
    "flash": "how far a flash lights the frame up",
    "change": "difference from the frame before",
}


# ---- quality -----------------------------------------------------------------------------------


def quality(found: Findings) -> Html:
    """Return the distributions of quality and scores, with thresholds."""
    plots = []
    for name, values in found.frames.columns.items():
        limits = {limit.partition("_")[0]: value for limit, value in values.limits.items()}
        count = len(values.kept) + len(values.dropped)
        told = ", ".join(f"{limit} {charts.short(value)}" for limit, value in limits.items())
        label = f"{name} of {count:,} frames; thresholds: {told or 'none'}"
        caption = tag("figcaption", tag("b", name), " ", _WORDS.get(name, "score"))
        chart = charts.histogram(values.kept, values.dropped, label=label, limits=limits)
        plots.append(tag("figure", caption, chart))
    key = tag(
        "p",
        tag("span", tag("i", class_="kept"), "passed the filter"),
        tag("span", tag("i", class_="dropped"), "left out, for whatever reason"),
        class_="key",
    )
    lead = "Each frame was measured once, when it was taken out; dashed lines are the thresholds."
    return section("quality", "Quality", lead, key, tag("div", *plots, class_="grid"))


def left_out(found: Findings, thumbs: Thumbnails) -> Html:
    """Return examples of dropped frames, by the reason that came first."""
    reasons, frames = found.frames.reasons, found.frames
    judged = sum(frames.extracted[video_id] for video_id in frames.passed)
    if not reasons:
        return section("dropped", "Left out", f"None of {judged:,} frames was left out.")
    bars = [(reason, count, f"{count:,} frames", "bad") for reason, count in reasons.most_common()]
    strips = []
    for reason, count in reasons.most_common():
        shots = [_figure(shot, found.facts, thumbs, _SMALL) for shot in frames.dropped[reason]]
        strips.append(tag("h3", tag("code", reason), f" {count:,} frames"))
        strips.append(tag("div", *shots, class_="shots"))
    lead = (
        f"{reasons.total():,} of {judged:,} frames were left out, each counted under the setting"
        " that it failed first; the number below a picture is the value that was judged."
    )
    return section("dropped", "Left out", lead, charts.bars(bars, "frames by reason"), *strips)


# ---- near-duplicates ---------------------------------------------------------------------------


def merged(found: Findings, thumbs: Thumbnails) -> Html:
    """Return which frames stand for which."""
    groups = found.merged
    if groups is None:
        return section("merged", "Near-duplicates", not_run(found, "Dedup"))
    limits = {} if groups.threshold is None else {"threshold": float(groups.threshold)}
    plots = [
        _plot(
            "frames that one stands for",
            charts.histogram(
                groups.sizes,
                label=f"sizes of {groups.unique:,} groups of near-duplicates",
                whole=True,
            ),
        ),
        _plot(
            f"{'bits' if groups.by_hash else '1 - cosine'} between it and the one that stays",
            charts.histogram(
                groups.distances,
                label="distances of merged frames",
                limits=limits,
                whole=groups.by_hash,
            ),
        ),
    ]
    lead = (
        f"{groups.unique:,} of {groups.frames:,} good frames were kept: the sharpest of each group"
        " of look-alikes, across all videos. Framed in green is the frame that stays."
    )
    parts = [tag("div", *plots, class_="grid")]
    for title, listed in (
        ("The largest groups", groups.largest),
        ("The boldest merges: least alike of what counts as the same", groups.boldest),
    ):
        if listed:
            parts.append(tag("h3", title))
            drawn = (_group(group, found.facts, thumbs) for group in listed)
            parts.append(tag("div", *drawn, class_="groups"))
    return section("merged", "Near-duplicates", lead, *parts)


def _group(group: Group, facts: Facts, thumbs: Thumbnails) -> Html:
    source = "" if group.videos == 1 else f", from {group.videos:,} videos"
    plural = "" if group.size == 1 else "s"
    told = f"stands for {group.size:,} other{plural}{source}, at most {group.farthest} away"
    kept = tag(
        "figure",
        _picture(group.kept, thumbs.of_video(group.kept, _MIDDLE)),
        tag("figcaption", tag("b", _named(facts, group.kept)), tag("br"), told),
    )
    others = (_figure(shot, facts, thumbs, _SMALL, name=False) for shot in group.merged)
    return tag("div", kept, tag("div", *others, class_="shots"), class_="group")


# ---- objects -----------------------------------------------------------------------------------


def objects(found: Findings, thumbs: Thumbnails) -> Html:
    """Return what was found: counts, sizes, places, and frames with boxes."""
    detected = found.objects
    if detected is None:
        return section("objects", "Objects", not_run(found, "Detect"))
    frames = len(detected.per_frame)
    having = int((detected.per_frame > 0).sum())
    lead = (
        f"{len(detected.boxes):,} objects in {having:,} of {frames:,} unique frames, found by"
        f" {cut(str(detected.info.get('model', 'the model')), _MODEL)}."
    )
    project = found.facts.project
    shown = [_drawn(drawn, found, thumbs, project) for drawn in detected.examples]
    return section(
        "objects",
        "Objects",
        lead,
        charts.bars(_classes(detected), "objects by class"),
        tag("div", *_plots(detected), class_="grid"),
        tag("h3", f"Frames with their objects ({len(shown):,} of {frames:,})"),
        tag("div", *shown, class_="shots large", data_page=12),
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


def _plots(detected: Objects) -> list[Html]:
    boxes, count = detected.boxes, len(detected.boxes)
    confidence = detected.info.get("confidence")
    limits = {"confidence": float(confidence)} if isinstance(confidence, (int, float)) else {}
    shares = np.sqrt(boxes[:, 2] * boxes[:, 3])
    return [
        _plot(
            "score",
            charts.histogram(
                detected.scores, label=f"scores of {count:,} objects", limits=limits, high=1.0
            ),
        ),
        _plot(
            "objects in a frame",
            charts.histogram(detected.per_frame, label="objects in each frame", whole=True),
        ),
        _plot(
            "side of a box as a share of the picture's",
            charts.histogram(shares, label="sizes of boxes, as shares of the picture", low=0.0),
        ),
        _plot(
            "where boxes lie: their centres",
            charts.heat(boxes[:, 0], boxes[:, 1], "centres of boxes in the picture"),
        ),
        _plot(
            "width (across) and height (up) of boxes",
            charts.heat(boxes[:, 2], boxes[:, 3], "widths and heights of boxes", upward=True),
        ),
        _plot(
            "objects in a video",
            charts.histogram(
                np.array([detected.per_video[video_id] for video_id in detected.images], np.int64),
                label="objects in each video",
                whole=True,
            ),
        ),
    ]


def _plot(name: str, chart: Html) -> Html:
    return tag("figure", tag("figcaption", tag("b", name)), chart)


def _drawn(drawn: Drawn, found: Findings, thumbs: Thumbnails, project: str) -> Html:
    assert found.objects
    names, size = found.objects.names, drawn.height / 17
    boxes = tag(
        "svg",
        # the surest last, so that it lies on top
        *(_box(box, names, size) for box in reversed(drawn.boxes[:_BOXES])),
        viewbox=f"0 0 {drawn.width} {drawn.height}",
        font_size=size,
        aria_hidden="true",
    )
    told = ", ".join(sorted({names.get(box["category_id"], "?") for box in drawn.boxes}))
    told = cut(told, _CLASSES_TOLD)
    picture = _picture(
        drawn.shot, thumbs.of_dataset(project, drawn, _LARGE), boxes, told or "no objects"
    )
    count = len(drawn.boxes)
    note = f"{count} object{'' if count == 1 else 's'}" if count else "nothing found"
    if count > _BOXES:
        note = f"{_BOXES} of {note}"
    return tag("figure", picture, _caption(_named(found.facts, drawn.shot), drawn.shot, note))


def _box(box: dict[str, Any], names: dict[int, str], size: float) -> Html:
    """A box with its class; the score shows where the pointer rests."""
    x, y, width, height = (float(value) for value in box["bbox"])
    name, drawn = names.get(box["category_id"], "?"), colour(box["category_id"])
    title = tag("title", f"{name} {box['score']:.2f}" if "score" in box else name)
    rect = tag("rect", title, x=x, y=y, width=width, height=height)
    above = y - 0.3 * size if y > 1.2 * size else y + height + size
    label = tag("text", cut(name, _LABEL), x=x, y=above)
    return tag("g", rect, label, fill=drawn, stroke=drawn)


# ---- small parts -------------------------------------------------------------------------------


def _figure(shot: Shot, facts: Facts, thumbs: Thumbnails, width: int, *, name: bool = True) -> Html:
    picture = _picture(shot, thumbs.of_video(shot, width))
    return tag("figure", picture, _caption(_named(facts, shot) if name else "", shot, shot.note))


def _picture(shot: Shot, uri: str | None, over: Html | None = None, told: str = "") -> Html:
    what = f"{shot.video_id} at {clock(shot.pts_time)}" + (f": {told}" if told else "")
    image = tag("img", src=uri, alt=what, decoding="async") if uri else tag("span", "not shown")
    return tag("div", join([image, over if uri else None]), class_="pic")


def _caption(name: str, shot: Shot, note: str) -> Html:
    time = clock(shot.pts_time)
    named = tag("span", tag("bdi", name), f" {time}", title=f"{name} {time}".strip())
    return tag("figcaption", named, tag("b", note) if note else None)


def _named(facts: Facts, shot: Shot) -> str:
    return facts.names.get(shot.video_id, shot.video_id)


def clock(seconds: float) -> str:
    """Return a time in a video as minutes and seconds."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
