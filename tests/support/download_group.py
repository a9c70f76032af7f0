"""Download jobs at once, as one run has them.

``python -m tests.support.download_group JOBS MINUTE FILE``

The file holds a configuration, and the ids of the ``videos``; with ``side_by_side``, one batch
of this many workers fetches this many at once. MINUTE is how many seconds the minute of
``requests_per_minute`` has.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import av  # noqa: F401 - once for all jobs
import yt_dlp.extractor.generic  # noqa: F401

from dataminer.config.load import load
from dataminer.net import rate_limit
from dataminer.sync.batches.batch import Batch
from dataminer.sync.batches.job import run_batch
from dataminer.sync.jobs.download import download_video


def main(count: int, minute: float, file: Path) -> int:
    """Fetch the videos, each process those of its share; return in how many one failed."""
    rate_limit.MINUTE = minute
    logging.basicConfig(level=logging.INFO, format="%(process)d %(message)s")
    given = json.loads(file.read_text())
    videos, downloads = given.pop("videos"), given.pop("side_by_side", None)
    config = load(given)
    if downloads:
        whole = Batch("download", videos)
        run_batch(whole, config, workers=count, memory_mb=4000 * count, downloads=downloads)
        return 0
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            failed = 0
            for video_id in videos[number::count]:
                try:
                    download_video(config, video_id)
                except BaseException:
                    logging.exception("failed")
                    failed = 1
            os._exit(failed)
        children.append(child)
    return sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])))
