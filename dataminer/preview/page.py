"""The preview as one page of HTML that needs nothing else: no script, no other host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dataminer import commands
from dataminer.config.models import FilterConfig
from dataminer.config.section import describe
from dataminer.files import atomic_write
from dataminer.preview.histogram import histogram
from dataminer.preview.measures import Measured, Preview
from dataminer.preview.strips import Cutter, Shot
from dataminer.report.html.markup import text as escape
from dataminer.report.html.style import policy
from dataminer.text import cut

_CSS = """
:root { color-scheme: light dark; --paper: #f6f6f4; --card: #fff; --ink: #1c1d1f; --faint: #63656b;
  --line: #e3e3df; --mat: #efefec; --keep: #2f6fb5; --drop: #c8553d; --try: #7a4fb3; }
@media (prefers-color-scheme: dark) { :root { --paper: #131416; --card: #1b1d20; --ink: #ececea;
  --faint: #a2a5ab; --line: #2d3035; --mat: #24272b; --keep: #6ea8ea; --drop: #e98a74;
  --try: #b897ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 40px 24px 80px; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue",
  "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 0; } h3 { font-size: .85rem; margin: 1.1rem 0 .45rem; }
p { margin: .3rem 0; } .faint { color: var(--faint); } code { font: .92em ui-monospace, "SF Mono",
  Menlo, "DejaVu Sans Mono", monospace; }
p code, td code { background: var(--mat); padding: .1em .35em; border-radius: 4px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 22px 24px 24px; margin: 20px 0; }
.bar { display: flex; height: 30px; border-radius: 6px; overflow: hidden; margin: .3rem 0 .2rem;
  gap: 1px; background: var(--line); } .bar div { min-width: 2px; background: var(--drop);
  color: var(--card); font-size: .78rem; line-height: 30px; white-space: nowrap; overflow: hidden;
  text-overflow: clip; }
.bar div:nth-child(even) { opacity: .78; } .bar .kept { background: var(--keep); opacity: 1; }
table { border-collapse: collapse; width: 100%; margin-top: 1rem; font-size: .92rem; }
th, td { text-align: right; padding: .38rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; } .wide + p { margin-top: 1rem; }
th { color: var(--faint); font-weight: 500; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } .wide { overflow-x: auto; }
td a { color: inherit; text-decoration-color: var(--faint); } td.zero { color: var(--faint); }
.head { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; align-items: baseline; }
svg { display: block; width: 100%; height: auto; margin-top: .8rem; }
svg text { fill: var(--faint); font-size: 12px; } svg .keep { fill: var(--keep); }
svg .drop { fill: var(--drop); } svg .axis { stroke: var(--line); }
svg line.now { stroke: var(--ink); stroke-width: 1.5; }
svg line.try { stroke: var(--try); stroke-width: 2; stroke-dasharray: 5 3; }
svg text.now { fill: var(--ink); } svg text.try { fill: var(--try); font-weight: 600; }
.strip { display: grid; grid-template-columns: repeat(6, 1fr); gap: 10px; }
@media (max-width: 760px) { .strip { grid-template-columns: repeat(3, 1fr); } }
figure { margin: 0; min-width: 0; } figure img, figure .gone { width: 100%; aspect-ratio: 16 / 9;
  object-fit: contain; background: var(--mat); border-radius: 6px; display: grid;
  place-items: center; font-size: .8rem; color: var(--faint); border-top: 3px solid var(--keep); }
.rejected img, .rejected .gone { border-top-color: var(--drop); }
figcaption { font-size: .78rem; line-height: 1.35; color: var(--faint); white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis; } figcaption b { color: var(--ink); }
.tried { color: var(--try); font-weight: 600; } dl { display: flex; flex-wrap: wrap;
  gap: .2rem 2rem; margin: .5rem 0 0; } dl div { display: flex; gap: .5rem; } dd { margin: 0;
  font-weight: 600; } dt { color: var(--faint); }
"""
_LONGEST = 200  # characters of a title


def write_page(path: Path, preview: Preview) -> None:
    """Write the page, whole or not at all."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(_page(preview))


def _page(preview: Preview) -> Iterator[str]:
    title, css = f"Thresholds of {preview.project}", _CSS + _widths(preview)
    yield '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy(css, js="")}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield '<meta name="referrer" content="no-referrer">\n'
    yield f"<title>{escape(title)}</title>\n<style>{css}</style>\n"
    yield f"<header><h1>{escape(title)}</h1>\n{_lead(preview)}</header>\n"
    yield _overview(preview)
    cutter = Cutter(preview)
    for place, measured in enumerate(preview.measured):
        yield _card(preview, place, measured, cutter)
    yield "</html>\n"


def _lead(preview: Preview) -> str:
    seen = f"{preview.frames:,} frames of {len(preview.videos):,}"
    if len(preview.videos) < preview.all_videos:
        seen += f" of the {preview.all_videos:,}"
    now = int((~preview.matrix(tried=False).any(axis=0)).sum())
    text = f"{seen} videos, as they were measured when they were extracted. "
    text += f"<b>{now:,} pass</b> ({_percent(now, preview.frames)}) as configured"
    if any(each.limit != each.tried for each in preview.measured):
        tried = int((~preview.matrix(tried=True).any(axis=0)).sum())
        share = _percent(tried, preview.frames)
        text += f', <span class="tried">{tried:,} ({share})</span> with what is tried'
    if preview.unread:
        text += f". The frames of {preview.unread:,} videos are not there to be read"
    return f'<p class="faint">{text}.</p>'


def _overview(preview: Preview) -> str:
    rows = "".join(_row(preview, place) for place in range(len(preview.measured)))
    hint = (
        f"<p>Try others without running anything: <code>dataminer preview {escape(preview.project)}"
        " --set filter.min_sharpness=0.1</code>. Set what is right in the configuration: the next"
        f" <code>{escape(commands.snakemake([preview.project]))}</code> runs again from filter on,"
        " in seconds. Heights of bars below are square roots of counts.</p>"
    )
    heads = "".join(
        f"<th>{head}</th>"
        for head in ("threshold", "as configured", "tried", "fail it", "fail it first", "only it")
    )
    return (
        f"<section><h2>What becomes of the frames</h2>{_bar(preview)}"
        f'<div class="wide"><table><tr>{heads}</tr>{rows}</table></div>{hint}</section>\n'
    )


def _bar(preview: Preview) -> str:
    """One bar of all frames: those that pass, then those that fail each threshold first."""
    kept, *first = _parts(preview)
    parts = [_part(0, f"pass: {kept:,}", kept, preview.frames)]
    for place, (measured, count) in enumerate(zip(preview.measured, first, strict=True), start=1):
        name = escape(measured.threshold.rejects)
        parts.append(_part(place, f"{name}: {count:,}", count, preview.frames))
    told = "all pass"
    if kept < preview.frames:
        told = f"{_percent(kept, preview.frames)} pass; the others by the threshold they fail first"
    return f'<div class="bar">{"".join(parts)}</div><p class="faint">{told}</p>'


def _part(place: int, title: str, count: int, whole: int) -> str:
    if not count:
        return ""
    label = f"&ensp;{title}" if count > 0.12 * whole else ""
    kind = "part0 kept" if place == 0 else f"part{place}"
    return f'<div class="{kind}" title="{title}">{label}</div>'


def _widths(preview: Preview) -> str:
    """Return how wide the parts of the bar are, as rules: no style attribute is obeyed."""
    return "".join(
        f".part{place} {{ width: {100 * count / preview.frames:.3f}%; }}\n"
        for place, count in enumerate(_parts(preview))
        if count
    )


def _parts(preview: Preview) -> list[int]:
    """Return how many frames pass, and how many fail each threshold first."""
    first = _first(preview)
    return [preview.frames - sum(first), *first]


def _first(preview: Preview) -> list[int]:
    fails = preview.matrix(tried=True)
    first = np.where(fails.any(axis=0), fails.argmax(axis=0), -1)
    return [int((first == place).sum()) for place in range(len(fails))]


def _only(preview: Preview, place: int) -> int:
    fails = preview.matrix(tried=True)
    return int((fails[place] & (fails.sum(axis=0) == 1)).sum())


def _row(preview: Preview, place: int) -> str:
    measured = preview.measured[place]
    name = escape(measured.threshold.rejects)
    changed = measured.limit != measured.tried
    tried = f'<span class="tried">{_number(measured.tried)}</span>' if changed else ""
    counts = (
        int(measured.tried_fails.sum()),
        _first(preview)[place],
        _only(preview, place),
    )
    cells = "".join(f'<td class="{"" if n else "zero"}">{n:,}</td>' for n in counts)
    return (
        f'<tr><td><a href="#{name}"><code>{name}</code></a></td>'
        f"<td>{_number(measured.limit)}</td><td>{tried}</td>{cells}</tr>"
    )


def _card(preview: Preview, place: int, measured: Measured, cutter: Cutter) -> str:
    threshold = measured.threshold
    name = escape(threshold.rejects)
    facts = [("as configured", _limit(measured, measured.limit, measured.fails))]
    if measured.limit != measured.tried:
        tried = _limit(measured, measured.tried, measured.tried_fails)
        facts.append(("tried", f'<span class="tried">{tried}</span>'))
    facts.append(("fail only this one", f"{_only(preview, place):,}"))
    if threshold.name == "min_change":
        facts.append(("held against", "frames that pass all the others"))
    unmeasured = int(np.isnan(measured.values).sum())
    if unmeasured:
        facts.append(("not measured", f"{unmeasured:,}"))
    told = "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in facts)
    strips = cutter.strips(measured)
    return (
        f'<section id="{name}"><div class="head"><h2><code>{name}</code></h2>'
        f'<span class="faint">{escape(_description(threshold.name))}</span></div>'
        f"<dl>{told}</dl>{histogram(measured)}"
        f"{_strip('kept', 'Just kept', strips.kept)}"
        f"{_strip('rejected', 'Just rejected', strips.rejected)}</section>\n"
    )


def _limit(measured: Measured, limit: float | None, fails: Sequence[bool] | np.ndarray) -> str:
    if limit is None:
        return "off"
    count = int(np.sum(fails))
    sign = "at least" if measured.threshold.least else "at most"
    return f"{sign} {_number(limit)}: {count:,} fail ({_percent(count, len(fails))})"


def _strip(kind: str, title: str, shots: Sequence[Shot]) -> str:
    if not shots:
        return f'<h3>{title}</h3><p class="faint">no frame</p>'
    figures = "".join(_figure(shot) for shot in shots)
    return f'<h3>{title}, the nearest first</h3><div class="strip {kind}">{figures}</div>'


def _figure(shot: Shot) -> str:
    minutes, seconds = divmod(shot.seconds, 60)
    name = escape(cut(shot.title or shot.video_id, _LONGEST))
    time = f"{int(minutes)}:{seconds:04.1f}"
    where = f"{name}, {time}"
    if shot.picture:
        picture = f'<img src="{shot.picture}" alt="{where}">'
    else:
        picture = '<div class="gone">the image is gone</div>'
    caption = f"<b>{_number(shot.value)}</b> at {time}<br>{name}"
    return f'<figure title="{where}">{picture}<figcaption>{caption}</figcaption></figure>'


def _description(name: str) -> str:
    """Return what the settings say of a threshold."""
    describe(FilterConfig)
    model: object = FilterConfig
    description = ""
    for part in name.split("."):
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return ""
        model, description = field.annotation, field.description or ""
    return description.replace("`", "")


def _number(value: float | None) -> str:
    return "off" if value is None else f"{value:.4g}"


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"
