"""The whole page, and writing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dataminer.files.publishing import atomic_write
from dataminer.provenance.fingerprints import IN_PAGE
from dataminer.report.data.facts import ProjectFacts
from dataminer.report.data.gather import Findings, gather
from dataminer.report.html import frame_sections, note_section, overview
from dataminer.report.html.markup import render
from dataminer.report.html.style import CSS, JS, policy
from dataminer.report.html.thumbs import Thumbnails
from dataminer.stages.dedup.references.listing import ReferencePictures
from dataminer.store.layout import Store

_SECTIONS = (
    ("funnel", "Funnel"),
    ("objects", "Objects"),
    ("videos", "Videos"),
    ("notes", note_section.TITLE),
    ("quality", "Quality"),
    ("dropped", "Left out"),
    ("merged", "Near-duplicates"),
    ("excluded", "Near references"),
    ("failures", "Failures"),
    ("cost", "Time and cost"),
    ("made", "Versions and settings"),
)


def write_report(
    store: Store,
    facts: ProjectFacts,
    out: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    benchmarks: Path = Path("logs/benchmarks"),
    fingerprint: str = "",
    references: ReferencePictures | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the report of a project from the results that exist so far; return its size in bytes.

    The page needs no other file or host and stays below 3 MB for any number of frames. The same
    files and facts give the same bytes.

    Parameters
    ----------
    store : Store
        Has the project's files.
    facts : ProjectFacts
        What the database has on the project.
    out : Path
        The page to write.
    settings : mapping, optional
        Settings to show, by section of the configuration.
    benchmarks : Path
        The folder of Snakemake's benchmark files.
    fingerprint, references
        Identifies the page's inputs, for the next run; the reference pictures that may be shown.
    tell : callable
        Called with a message for each damaged file, which is skipped.
    """
    found = gather(store, facts, settings or {}, benchmarks, references)
    for message in found.damaged:
        tell(message)
    data = page(found, Thumbnails(store, facts.project), fingerprint).encode()
    with atomic_write(out) as partial:
        partial.write_bytes(data)
    return len(data)


def page(found: Findings, thumbs: Thumbnails, fingerprint: str = "") -> Markup:
    """Return the page of a project's findings."""
    # the most important pictures first, in case the budget runs out
    drawn = {
        "objects": frame_sections.objects(found, thumbs),
        "dropped": frame_sections.left_out(found, thumbs),
        "merged": frame_sections.merged(found, thumbs),
        "excluded": frame_sections.excluded(found, thumbs),
        "funnel": overview.funnel(found),
        "videos": overview.videos(found),
        "notes": note_section.notes(found),
        "quality": frame_sections.quality(found),
        "failures": overview.failures(found),
        "cost": overview.cost(found),
        "made": overview.made(found),
    }
    facts, changed = found.facts, found.changed
    return render(
        "page",
        project=facts.project,
        stage=facts.stage,
        videos=len(facts.videos),
        changed=f"results of {changed:%Y-%m-%d %H:%M} UTC" if changed else "no dataset yet",
        tiles=overview.tiles(found),
        sections=[(key, name, drawn[key]) for key, name in _SECTIONS if drawn[key]],
        missing=thumbs.missing,
        fingerprint_name=IN_PAGE,
        fingerprint=fingerprint,
        policy=policy(),
        css=Markup(CSS),
        js=Markup(JS),
    )
