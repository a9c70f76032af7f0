"""The whole page, and writing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataminer.files import atomic_write
from dataminer.provenance.fingerprints import IN_PAGE
from dataminer.report.data.facts import Facts
from dataminer.report.data.gather import Findings, gather
from dataminer.report.html import overview, pictures
from dataminer.report.html.markup import Html, join, tag
from dataminer.report.html.style import CSS, JS, policy
from dataminer.report.html.thumbs import Thumbnails
from dataminer.store.layout import Store

_PARTS = (
    ("funnel", "Funnel"),
    ("objects", "Objects"),
    ("videos", "Videos"),
    ("quality", "Quality"),
    ("dropped", "Left out"),
    ("merged", "Near-duplicates"),
    ("failures", "Failures"),
    ("cost", "Time and cost"),
    ("made", "Versions and settings"),
)


def write_report(
    store: Store,
    facts: Facts,
    out: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    benchmarks: Path = Path("logs/benchmarks"),
    fingerprint: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Draw a project's report, of as much as there is of it.

    The page holds all that it shows and asks no other host for anything; it stays below 3 MB,
    whatever the number of frames. The same files and facts give the same bytes.

    Parameters
    ----------
    store : Store
        Where the project's files are.
    facts : Facts
        What the database says of the project.
    out : Path
        The page to write.
    settings : mapping, optional
        By section of the configuration, what to show of it.
    benchmarks : Path
        The folder of Snakemake's benchmark files.
    fingerprint : str
        What the page is made from, for the next run to compare.
    tell : callable
        Told of each file that is damaged, and left out.

    Returns
    -------
    int
        Its size in bytes.
    """
    found = gather(store, facts, settings or {}, benchmarks)
    for message in found.damaged:
        tell(message)
    drawn = page(found, Thumbnails(store, facts.project), fingerprint)
    data = drawn.encode()
    with atomic_write(out) as partial:
        partial.write_bytes(data)
    return len(data)


def page(found: Findings, thumbs: Thumbnails, fingerprint: str = "") -> Html:
    """Return the page of what was gathered."""
    # first the pictures that matter most, should the bytes for them run out
    drawn = {
        "objects": pictures.objects(found, thumbs),
        "dropped": pictures.left_out(found, thumbs),
        "merged": pictures.merged(found, thumbs),
        "funnel": overview.funnel(found),
        "videos": overview.videos(found),
        "quality": pictures.quality(found),
        "failures": overview.failures(found),
        "cost": overview.cost(found),
        "made": overview.made(found),
    }
    links = (tag("a", name, href=f"#{key}") for key, name in _PARTS)
    body = tag(
        "body",
        _header(found),
        tag("nav", tag("div", *links), aria_label="Sections"),
        tag("main", *(drawn[key] for key, _ in _PARTS)),
        _footer(thumbs),
        tag("script", Html(JS)),
    )
    return document(f"{found.facts.project}: dataminer report", body, fingerprint)


def document(title: str, body: Html, fingerprint: str = "") -> Html:
    """Return a page of its own, with the look of the report."""
    made = [tag("meta", name=IN_PAGE, content=fingerprint)] if fingerprint else []
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        *made,
        tag("meta", http_equiv="Content-Security-Policy", content=policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(CSS)),
    )
    return Html(f"<!doctype html>\n{tag('html', head, body, lang='en')}\n")


def _header(found: Findings) -> Html:
    facts = found.facts
    when = f"results of {found.changed:%Y-%m-%d %H:%M} UTC" if found.changed else "no dataset yet"
    plural = "" if len(facts.videos) == 1 else "s"
    return tag(
        "header",
        tag("p", "dataminer report", class_="over"),
        tag("h1", facts.project),
        tag(
            "p",
            tag("span", facts.stage, class_=f"pill {facts.stage}"),
            f"  {len(facts.videos):,} video{plural}, {when}",
        ),
        overview.tiles(found),
    )


def _footer(thumbs: Thumbnails) -> Html:
    notes = ["Pictures are samples, spread evenly over the dataset."]
    if thumbs.missing:
        notes.append(f"{thumbs.missing:,} of them could not be read.")
    return tag("footer", join(tag("p", note) for note in notes))
