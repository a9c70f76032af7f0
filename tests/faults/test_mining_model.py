"""Whatever happens between two plain runs, the second leaves what mining without faults leaves.

The same way each time; `benchmarks/walk.py` goes others, and further.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.walk import PLANNED, SNAKEMAKE, Runs, begun, go

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # yt-dlp's
]


@pytest.mark.parametrize(
    ("runs", "seed", "legs"),
    [(SNAKEMAKE, 3, 3), (PLANNED, 602, 8)],
    ids=["snakemake", "its plan"],
)
def test_a_plain_run_leaves_what_mining_without_faults_leaves(
    tmp_path: Path, server: str, template: str, runs: Runs, seed: int, legs: int
) -> None:
    with begun(tmp_path, server, template, seed, runs) as walk:
        go(walk, seed, legs)
