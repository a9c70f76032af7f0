"""Walks at random through all that happens to a site: each plain run must put it right.

The test of the same name goes the same few ways. A walk that fails prints its seed and its steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dataminer.db.server import control  # noqa: E402
from tests.support.embedded import own_server  # noqa: E402
from tests.support.postgres import template_of  # noqa: E402
from tests.support.walk import PLANNED, SNAKEMAKE, begun, go  # noqa: E402

EXAMPLES = """
examples:
  python benchmarks/walk.py --seed 1 --runs 20
  python benchmarks/walk.py --seed 1 --walks 100 --without-snakemake --json

An embedded server of its own is made in a temporary folder. Without Snakemake the same plan is
carried out in one process per run, in a fraction of the time: rules are not tested then.
"""


def walked(folder: Path, chosen: argparse.Namespace) -> list[dict[str, object]]:
    """Walk, and return for each walk whether all was right."""
    found: list[dict[str, object]] = []
    runs = PLANNED if chosen.without_snakemake else replace(SNAKEMAKE, asks_each_time=True)
    with own_server(folder) as home:
        server = control.url(home)
        tables = template_of(server)
        for seed in range(chosen.seed, chosen.seed + chosen.walks):
            own_folder = folder / f"walk-{seed}"
            own_folder.mkdir()
            result: dict[str, object] = {"seed": seed, "runs": chosen.runs, "failure": None}
            with begun(own_folder, server, tables, seed, runs) as walk:
                try:
                    result["seconds"] = round(go(walk, seed, chosen.runs), 1)
                except AssertionError as error:
                    result["failure"] = str(error)
                result["steps"] = len(walk.story)
            found.append(result)
            if not chosen.json:
                print(result["failure"] or result, flush=True)
    return found


def main() -> None:
    """Walk, and print how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first walk")
    parser.add_argument("--walks", type=int, default=1, help="each with the next seed")
    parser.add_argument("--runs", type=int, default=20, help="plain runs of each walk")
    parser.add_argument("--without-snakemake", action="store_true", help="do what runs plan")
    parser.add_argument("--json", action="store_true", help="one JSON list and nothing else")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = walked(Path(folder), chosen)
    if chosen.json:
        print(json.dumps(found))
    if any(one["failure"] for one in found):
        sys.exit("a plain run did not put right what had happened")


if __name__ == "__main__":
    main()
