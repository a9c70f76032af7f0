"""A run of 200 videos in its midst: two have failed, and a source pauses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dataminer.monitor.progress.run import RunProgress
from dataminer.monitor.progress.stage import StageProgress

PAUSE: dict[str, Any] = {
    "source": "youtube",
    "reason": "it asks to sign in and confirm that you are not a bot",
    "open_until": datetime(2000, 1, 2, 14, 30, tzinfo=UTC),
    "seconds_left": 5400.0,
}
PROGRESS = RunProgress(
    projects=["birds"],
    seconds=754.0,
    stages=[
        StageProgress("download", 200, 150, 2, 4, 1_234_567_890, 12.04, 1.6e6, None),
        StageProgress("extract", 200, 100, 2, 2, 31_200, 8.1, 42.0, 726.0),
        StageProgress("filter", 200, 60, 2, 0, 15_023, 120.4, 500.0, 69.0),
    ],
    datasets={
        name: {"waiting": 1, "running": 0, "done": 0} for name in ("dedup", "detect", "report")
    },
    failures={"corrupt": 1, "empty": 1},
    to_retry={"bot_check": 4},
    pauses=[PAUSE],
)


class Following:
    """Follows a run of which always the same is known."""

    def read(self, *, force: bool = False) -> RunProgress:
        return PROGRESS
