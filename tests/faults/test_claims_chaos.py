"""Processes that share rows while they are killed; benchmarks/storm.py lets it rage for longer."""

from __future__ import annotations

from pathlib import Path

from tests.support.storm import Storm, rage


def test_nothing_is_lost_or_done_twice_while_processes_are_killed(
    database: str, tmp_path: Path
) -> None:
    storm = Storm(rows=200, workers=4, least_kills=10, kill_every=0.1)
    after = rage(database, tmp_path / "store", storm)
    assert after.kills >= 10
    assert after.late >= 1
    assert len(after.leases) >= 200
    assert after.most_accepted == 1
    assert dict(after.accepted) == after.leases == after.published
    assert after.open_claims == 0
