"""What a process of dataminer loads, and what it is like once that is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = "import dataminer, cv2, numpy, scipy.linalg, os"
COUNT = "print(len(os.listdir('/proc/self/task')))"


def threads(**environment: str) -> int:
    """Count the threads of a process that has loaded the libraries and done nothing."""
    usual = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", f"{LOAD}; {COUNT}"]
    printed = subprocess.run(command, env=usual | environment, capture_output=True, check=True)
    return int(printed.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted by Linux")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one core no library starts threads")
def test_libraries_start_no_threads_unless_told_to() -> None:
    assert threads() == 1
    assert threads(OPENBLAS_NUM_THREADS="2") > 1


def test_parsing_needs_no_yt_dlp() -> None:
    code = (
        "import sys; from dataminer.ingest.parse import parse;"
        "from dataminer.ingest.sources import collect;"
        "parse('https://youtu.be/aqz-KE-bpKQ');"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('yt_dlp', 'av', 'cv2')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
