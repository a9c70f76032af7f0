"""Two projects with different settings at once, killed at random: each dataset is exactly its own.

A few pairs, the same each time; `benchmarks/pairs.py` has others, and more.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pairs import Pairs
from tests.support.postgres import fresh_database


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp's
def test_pairs_leave_what_each_project_makes_alone(
    tmp_path: Path, server: str, template: str
) -> None:
    with fresh_database(server, template, "alone") as alone:
        pairs = Pairs(tmp_path, server, template, alone)
        for seed in range(3):
            pairs.pair(seed)
        assert pairs.kills
