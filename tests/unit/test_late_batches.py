"""When a batch is late, and for how long a job may take over its videos."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.batches.late_batches import LateBatches, is_late


@pytest.mark.parametrize(
    ("done", "elapsed", "late"),
    [
        (0.0, 0.2, False),  # it has just begun
        (0.0, 0.3, True),
        (0.3, 0.5, False),
        (0.2, 0.5, True),
        (0.6, 1.0, False),
        (0.1, 1.0, True),  # ten times as slow
        (0.6, 1.9, False),
        (0.9, 2.1, True),  # its job is dead, perhaps
    ],
)
def test_a_batch_is_late_if_it_has_done_less_than_half(
    done: float, elapsed: float, late: bool
) -> None:
    assert is_late(done, elapsed) is late


def test_a_job_takes_over_as_long_as_slurm_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def until(answer: str) -> float:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / "squeue").chmod(0o755)
        return LateBatches(BatchList(tmp_path, {}, "me", 1), "extract", "a").until

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert until("2026-11-30T04:00:00 2026-11-30T05:00:00") == math.inf
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    hour = until("2026-11-30T04:00:00 2026-11-30T05:00:00")
    longer = until("2026-11-30T04:00:00 2026-11-30T08:00:00")
    assert longer - hour == 3 * 3600 * 3 / 4
    assert until("N/A N/A") == until("") == 0  # unknown
