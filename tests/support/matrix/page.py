"""Write ``docs/matrix.md`` from the list of cells."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import av

from dataminer.frames.notes import NOTE_KINDS
from tests.support.matrix.cell import Cell
from tests.support.matrix.cells import CELLS
from tests.support.matrix.ffmpeg import FACTS, faults, known_faults, measured_with, version
from tests.support.paths import ROOT

PAGE = ROOT / "docs/matrix.md"
_HEAD = """\
# What was filmed, and what comes out

Each row is a test: `tests/integration/test_matrix.py` draws numbered pictures with eight known
colours, encodes them, causes the trouble, extracts frames and compares them with what is right.
{count} kinds of videos are tested. The columns:

- **right**: the frames that must come (each is numbered, so that no other passes for it), their
  size, and the largest error of a colour, of 255. Times must be right to 1.5 ms.
- **said**: the warnings and notes that must be in the table. Any other warning fails the test.
- **ffmpeg {version}**: what `ffmpeg -i VIDEO -vf fps=...` does wrong with the same file, as
  measured; empty if its frames are right. It may choose neighbouring frames, which is not counted
  as wrong. "No word of it" means that it printed no warning of what was lost or derived.

Not in the table is what nothing in a file tells: that a file was cut exactly between two packets of
an MPEG stream, and that a part is missing within a packet of VP8, VP9 or Motion JPEG, of which the
decoder makes a picture without an error.

This page is generated: `python -m tests.support.matrix.page`.
"""
_GROUPS = {
    "plain": "Sound videos",
    "colour": "Colour",
    "HDR": "HDR",
    "alpha": "Transparency",
    "geometry": "Geometry",
    "interlaced": "Interlaced",
    "combined": "Several at once",
    "loss": "Loss",
    "time": "Time",
    "stream": "Which stream is the film",
    "ends": "Where files end",
    "one picture": "One picture",
    "no video": "What is no video",
    "encrypted": "Encrypted files",
}


def page() -> str:
    """Return the page."""
    return "".join(_sections())


def _sections() -> Iterator[str]:
    found, measured = known_faults(), measured_with()
    yield _HEAD.format(count=len(CELLS), version=measured)
    for group, cells in itertools.groupby(
        sorted(CELLS, key=lambda cell: list(_GROUPS).index(cell.group)), lambda cell: cell.group
    ):
        yield f"\n## {_GROUPS[group]}\n\n"
        yield f"| container | codec | trouble | right | said | ffmpeg {measured} |\n"
        yield "|---|---|---|---|---|---|\n"
        for cell in cells:
            parts = (cell.container, cell.codec, cell.trouble, _right(cell), _notes(cell))
            yield f"| {' | '.join([*parts, found.get(cell.name, '')])} |\n"


def _right(cell: Cell) -> str:
    if cell.refused:
        return f"an error: {cell.refused.error_class.lower().replace('_', ' ')}"
    count = len(cell.numbers) if cell.numbers else 0
    frames = f"{count} frame{'s' * (count != 1)}" if count else "all that is whole"
    size = f"{cell.size[0]}x{cell.size[1]}" if cell.size else "each part in its size"
    error = f"within {cell.error:g}" if cell.error is not None else ""
    return ", ".join(part for part in ("about " * cell.about + frames, size, error) if part)


def _notes(cell: Cell) -> str:
    kinds = [kind for kind in NOTE_KINDS if kind in cell.warns | cell.converts]
    some = [kind for kind in NOTE_KINDS if kind in cell.some_of]
    words = [f"`{kind}`" for kind in kinds]
    if some:
        words.append(" or ".join(f"`{kind}`" for kind in some))
    return ", ".join(words)


def _measure() -> None:
    os.environ["SVT_LOG"] = "1"
    av.logging.set_level(av.logging.ERROR)
    found = {}
    for cell in CELLS:
        with tempfile.TemporaryDirectory() as folder:
            text = faults(cell, cell.make(Path(folder) / cell.file_name))
        if text:
            found[cell.name] = text
    facts = {"version": version(), "faults": found}
    FACTS.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with ``--check`` see that it is up to date; return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.support.matrix.page", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--measure", action="store_true", help="first see what ffmpeg does wrong")
    given = parser.parse_args(arguments)
    if given.measure:
        _measure()
    text = page()
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if given.check:
        print(f"{PAGE} differs from what {__spec__.name} generates", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
