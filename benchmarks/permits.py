"""Permits of the budget that all nodes share: how many the database gives in a second.

Many processes ask for one source, or each for its own, with a limit that is out of reach. What a
process does between two permits, the request itself, is left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from dataminer.config.models import BudgetConfig, HostRates
from dataminer.db import schema
from dataminer.db.server import control
from dataminer.net import rate_limit
from dataminer.sync.rate_limit.shared import SharedRateLimiter

EXAMPLES = """
examples:
  python benchmarks/permits.py
  python benchmarks/permits.py --seconds 1 --json
"""
CASES = [(1, 1), (16, 1), (16, 16), (90, 1)]  # processes, sources


def ask(
    url: str, begin: float, seconds: float, count: Synchronized[int], worst: Synchronized[float]
) -> None:
    """Take permits for so long, and add up how many, and the longest wait for one."""
    rate_limit.MINUTE, rate_limit.TRANSIT_SECONDS, rate_limit.PERMIT_GRACE_SECONDS = (
        0.001,
        0.0,
        0.0,
    )  # no limit but the database's own
    asker = SharedRateLimiter(BudgetConfig(others=HostRates(requests_per_minute=60_000)))
    asker.request(url)
    time.sleep(max(0.0, begin - time.time()))
    mine, longest = 0, 0.0
    while time.time() < begin + seconds:
        before = time.monotonic()
        asker.request(url)
        mine, longest = mine + 1, max(longest, time.monotonic() - before)
    with count.get_lock():
        count.value += mine
    with worst.get_lock():
        worst.value = max(worst.value, longest)


def measure(processes: int, sources: int, seconds: float) -> dict[str, float]:
    """Run one case."""
    fork = multiprocessing.get_context("fork")
    count, worst = fork.Value("q", 0), fork.Value("d", 0.0)
    begin = time.time() + 2 + processes / 30
    running = [
        fork.Process(
            target=ask,
            args=(f"http://h{number % sources}.example/", begin, seconds, count, worst),
        )
        for number in range(processes)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    return {
        "processes": processes,
        "sources": sources,
        "permits_per_second": round(count.value / seconds),
        "longest_ms": round(worst.value * 1000),
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="for each case")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "postgres"
        os.environ["DATABASE_URL"] = control.start(home)
        try:
            schema.upgrade()
            found = [measure(*case, options.seconds) for case in CASES]
        finally:
            control.stop(home)
    if options.json:
        print(json.dumps(found))
        return
    for row in found:
        print("  ".join(f"{name} {value:,}" for name, value in row.items()))


if __name__ == "__main__":
    main()
