"""Pairs of projects on one store with different settings, killed at random as they mine at once.

Each dataset must be exactly what its settings make alone. A pair that fails prints its seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dataminer.db.server import control  # noqa: E402
from tests.support.embedded import own_server  # noqa: E402
from tests.support.pairs import Pairs  # noqa: E402
from tests.support.postgres import fresh_database, template_of  # noqa: E402

EXAMPLES = """
examples:
  python benchmarks/pairs.py
  python benchmarks/pairs.py --seed 100 --pairs 10 --json

An embedded server of its own is made in a temporary folder.
"""


def main() -> None:
    """Mine in pairs, and print how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first pair")
    parser.add_argument("--pairs", type=int, default=50, help="each with the next seed")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    chosen = parser.parse_args()
    began, failures = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder, own_server(Path(folder)) as home:
        server = control.url(home)
        template = template_of(server)
        with fresh_database(server, template, "alone") as alone:
            pairs = Pairs(Path(folder), server, template, alone)
            for seed in range(chosen.seed, chosen.seed + chosen.pairs):
                try:
                    pairs.pair(seed)
                except AssertionError as error:
                    failures[seed] = str(error)
                    print(f"seed {seed}: {error}", file=sys.stderr, flush=True)
    results = {"pairs": chosen.pairs, "kills": pairs.kills, "failures": len(failures)}
    if chosen.json:
        print(json.dumps(results))
    else:
        print(", ".join(f"{count} {name}" for name, count in results.items()))
        print(f"{time.monotonic() - began:.0f} s")
    if failures:
        sys.exit("a dataset is not what its settings make alone")


if __name__ == "__main__":
    main()
