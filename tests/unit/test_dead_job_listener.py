"""What a log says of how a job died."""

from __future__ import annotations

from dataminer.sync.recovery import dead_job_listener
from dataminer.sync.recovery.dead_jobs import Death


def test_an_exit_status_is_named() -> None:
    assert dead_job_listener._death("…' returned non-zero exit status 137.") == Death(
        "exit status 137"
    )
    assert dead_job_listener._death("") == Death("its log has no details")
