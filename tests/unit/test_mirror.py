"""What a log says of how a job died."""

from __future__ import annotations

from dataminer.sync import mirror
from dataminer.sync.dead_jobs import Death


def test_an_exit_status_is_named() -> None:
    assert mirror._death("…' returned non-zero exit status 137.") == Death("exit status 137")
    assert mirror._death("") == Death("its log tells no more")
