"""Links in the documents lead to files and headings that exist; the index leads to every page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt  # of rich
from markdown_it.token import Token

from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for folder in (ROOT, DOCS, ROOT / "config", ROOT / "demo", ROOT / "benchmarks")
    for path in folder.glob("*.md")
)


@cache
def parsed(page: Path) -> Sequence[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


def links(page: Path) -> Iterator[str]:
    """Yield where the links and images of a page lead, except to other sites."""
    for part in (part for token in parsed(page) for part in token.children or ()):
        target = part.attrGet({"link_open": "href", "image": "src"}.get(part.type, ""))
        if target is not None and not urlsplit(str(target)).scheme:
            yield unquote(str(target))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    texts: Counter[str] = Counter()
    found = set()
    for opening, text in zip(parsed(page), parsed(page)[1:], strict=False):
        if opening.type == "heading_open":
            shown = "".join(part.content for part in text.children or ())
            anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            found.add(f"{anchor}-{texts[anchor]}" if texts[anchor] else anchor)
            texts[anchor] += 1
    return frozenset(found)


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""

    def works(target: str) -> bool:
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        return to.exists() and (not anchor or anchor in anchors(to))

    return [target for target in links(page) if not works(target)]


def reached(index: Path) -> set[Path]:
    """Return the pages that links lead to, directly or through other pages."""
    known: set[Path] = set()
    waiting = {index}
    while waiting:
        page = waiting.pop()
        known.add(page)
        paths = (target.partition("#")[0] for target in links(page))
        pages = {(page.parent / path).resolve() for path in paths if path.endswith(".md")}
        waiting |= {to for to in pages if to.exists()} - known
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_resolves(page: Path) -> None:
    assert broken(page) == []


def test_every_docs_page_is_reachable_from_the_index() -> None:
    assert sorted(set(DOCS.glob("*.md")) - reached(DOCS / "README.md")) == []
    assert DOCS / "README.md" in reached(ROOT / "README.md")


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# One: `two`\n\n# One: `two`\n\n```\n# None\n```\n")
    page.write_text(
        "[a](other.md#one-two) [b](other.md#one-two-1) [c](#part) `[code](code.md)` [d](https://x/y)\n\n"
        "| [e](gone.md) |\n|---|\n| ![f](gone.jpg) [g](other.md#none) |\n\n## Part\n"
    )
    assert broken(page) == ["gone.md", "gone.jpg", "other.md#none"]
    assert reached(page) == {page, tmp_path / "other.md"}
