"""Many processes that share rows while one after another is killed: nothing lost, nothing twice.

The test of the same name lets it rage for seconds. Here some workers also stall past the stale
threshold, and what they bring then must be refused.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dataminer.db import schema  # noqa: E402
from dataminer.db.server import control  # noqa: E402
from tests.support.storm import Aftermath, Storm, rage  # noqa: E402

EXAMPLES = """
examples:
  python benchmarks/storm.py
  python benchmarks/storm.py --rows 20000 --processes 32 --json

An embedded server of its own is made in a temporary folder.
"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Give the URL of a server with the tables in it, which DATABASE_URL names."""
    home = folder / "postgres"
    try:
        url = control.start(home)
        os.environ["DATABASE_URL"] = url
        schema.upgrade()
        yield url
    finally:
        control.stop(home)
        # as root the data lies elsewhere: the server's own user cannot enter a private folder
        shutil.rmtree(home.resolve())


def figures(after: Aftermath) -> dict[str, float]:
    """Return the counts of a storm; `lost` and `twice` must be 0."""
    return {
        "rows": len(after.leases),
        "kills": after.kills,
        "seconds": round(after.seconds, 1),
        "claimed_again": after.claimed_again,
        "highest_lease": max(after.leases.values()),
        "late_refused": after.late,
        "lost": len(after.leases) - len(after.published),
        "twice": len(after.accepted) - len(dict(after.accepted)),
        "published_unlike_row": sum(
            after.published.get(name) != lease for name, lease in after.leases.items()
        ),
    }


def main() -> None:
    """Let it rage, and print what it left."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000, help="rows to be done")
    parser.add_argument("--processes", type=int, default=16, help="workers at once")
    parser.add_argument("--kill-every", type=float, default=0.2, help="seconds between two kills")
    parser.add_argument(
        "--stalls", type=float, default=0.01, help="share of rows whose worker does"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    chosen = parser.parse_args()
    storm = Storm(
        rows=chosen.rows,
        workers=chosen.processes,
        least_kills=10,
        kill_every=chosen.kill_every,
        stalls=chosen.stalls,
    )
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        found = figures(rage(url, Path(folder) / "store", storm))
    if chosen.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<21} {value}")
    if found["lost"] or found["twice"] or found["published_unlike_row"]:
        sys.exit("a row was lost or done twice")


if __name__ == "__main__":
    main()
