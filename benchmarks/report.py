"""The report of a large project: how big its page is, and what drawing it takes.

The project's tables are synthetic: a fifth of the frames fails the filter, one in four of the rest
is unique and has two objects. The pictures that the page shows are noise, which compresses worst.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataminer.report.data.gather import gather
from dataminer.report.html.page import write_report
from dataminer.store.layout import Store
from tests.support.report_project import draw_pictures, make_project

EXAMPLES = """
examples:
  python benchmarks/report.py
  python benchmarks/report.py --frames 1000 100000 --json
"""
VIDEOS = 100


def measure(frames: int) -> dict[str, Any]:
    """Draw the report of a project with a number of frames."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "data")
        facts = make_project(store, "large", VIDEOS, frames // VIDEOS)
        pictures = draw_pictures(store, gather(store, facts, {}, Path(folder)))
        began = time.process_time()
        size = write_report(store, facts, Path(folder) / "index.html", benchmarks=Path(folder))
        took = time.process_time() - began
    return {"frames": frames, "pictures": pictures, "bytes": size, "cpu_seconds": took}


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs=2, default=[1000, 100_000])
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    options = parser.parse_args()
    small, large = (measure(frames) for frames in options.frames)
    if options.json:
        ratios = {
            "bytes": large["bytes"],
            "bytes_vs_small": large["bytes"] / small["bytes"],
            "cpu_vs_small": large["cpu_seconds"] / small["cpu_seconds"],
        }
        print(json.dumps({**ratios, "small": small, "large": large}))
        return
    for row in (small, large):
        print(
            f"{row['frames']:>9,} frames: {row['bytes'] / 1e6:.2f} MB, "
            f"{row['pictures']} pictures, {row['cpu_seconds']:.2f} s of CPU"
        )


if __name__ == "__main__":
    main()
