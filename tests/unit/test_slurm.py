"""What a job knows of Slurm, from programs that answer like Slurm's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dataminer.sync.batches.job import workers_here
from dataminer.sync.claims import slurm


@pytest.fixture
def set_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Have a program print something; empty, it fails."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def answer(program: str, text: str) -> None:
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\nprintf '{text}'\n" if text else "#!/bin/sh\nexit 1\n")
        path.chmod(0o755)

    return answer


@pytest.mark.parametrize(
    ("environment", "requested", "workers"),
    [
        ({}, 4, 2),  # on this machine, the threads count
        ({"SLURM_CPUS_PER_TASK": "4"}, 4, 4),
        ({"SLURM_CPUS_PER_TASK": "8"}, 4, 4),  # the memory is for four
        ({"SLURM_CPUS_PER_TASK": "1"}, 4, 1),
        ({"SLURM_CPUS_ON_NODE": "3"}, 4, 3),
        ({"SLURM_CPUS_ON_NODE": "3"}, -1, 3),  # a site that takes no number of cores
    ],
)
def test_a_job_works_on_as_many_videos_as_it_has_cores(
    environment: dict[str, str], requested: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert workers_here(2, requested) == workers


def test_the_last_end_of_a_job_counts(set_answer: Callable[[str, str], None]) -> None:
    set_answer("sacct", "PREEMPTED\\nRUNNING\\n")
    assert slurm.state("12") == "PREEMPTED"
    set_answer("sacct", "PREEMPTED\\nCANCELLED by 1000\\n")
    assert slurm.state("12") == "CANCELLED"
    set_answer("sacct", "RUNNING\\n")
    assert slurm.state("12") is None
    set_answer("sacct", "")
    set_answer("scontrol", "JobId=12 JobState=TIMEOUT Reason=TimeLimit\\n")
    assert slurm.state("12") == "TIMEOUT"


def test_an_empty_queue_is_not_the_same_as_no_answer(
    set_answer: Callable[[str, str], None],
) -> None:
    set_answer("squeue", "JOBID\\n")
    assert slurm.queued() == set()
    set_answer("squeue", "JOBID\\n12\\n13\\n")
    assert slurm.queued() == {"12", "13"}
    set_answer("squeue", "")
    assert slurm.queued() is None
