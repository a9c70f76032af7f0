"""Models look at a batch of videos in a worker process that can be lost without the others."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dataminer.config import Config
from dataminer.errors import DataminerError
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.sync.batches import pool

log = logging.getLogger("dataminer")

_HOPELESS = 3  # videos that failed in a row, one by one: it is the machine or the model


def run_models(config: Config, frames: Mapping[str, Collection[Path]], *, threads: int) -> None:
    """Have the models in use look at videos that they have not seen, all in one process.

    It loads each model once and fills its batches across videos. If it fails, crashes or hangs, the
    videos are looked at one by one, and only those at fault fail.

    Parameters
    ----------
    config : Config
        The settings.
    frames : mapping of str to collection of Path
        The folders of the frames of each video of the batch.
    threads : int
        For reading and decoding images ahead of a model.

    Raises
    ------
    DataminerError
        When videos are left that the models have not seen.
    """
    eyes = _Eyes(config, frames, threads)
    failed = eyes.try_each([tuple(frames)])
    if failed and len(frames) > 1:
        log.warning("%s; the videos are looked at one by one", failed[0])
        failed = eyes.try_each((video_id,) for video_id in frames)
    if failed:
        more = f" (and {len(failed) - 1} more, see the log)" if len(failed) > 1 else ""
        raise DataminerError(f"{failed[0]}{more}")


@dataclass(frozen=True)
class _Eyes:
    config: Config
    frames: Mapping[str, Collection[Path]]
    threads: int

    def try_each(self, parts: Iterable[tuple[str, ...]]) -> list[str]:
        """Look at each part; say what failed, until nothing else can be expected."""
        monitor = self.config.monitor
        limits = pool.Limits(
            memory_bytes=sys.maxsize,  # a model takes what it takes
            blocked_seconds=monitor.stale_threshold_minutes * 60 / 2,
            idle_seconds=monitor.no_progress_minutes * 60,
        )
        failed, in_a_row = [], 0
        done = pool.run(parts, self._look, workers=1, limits=limits, settle=lambda *_: None)
        with closing(done):  # type: ignore[type-var]
            for part, result in done:
                said = result.how if isinstance(result, pool.Lost) else result
                in_a_row = in_a_row + 1 if said else 0
                if said:
                    failed.append(f"{part[0]}: {said}" if len(part) == 1 else said)
                if in_a_row == _HOPELESS:
                    break
        return failed

    def _look(self, videos: tuple[str, ...]) -> str | None:
        """Look at some videos, in the worker; return why that failed."""
        try:
            frames = {video_id: self.frames[video_id] for video_id in videos}
            FrameModels.of(self.config).run_models(frames, self.threads, log.info)
        except DataminerError as error:
            log.error("%s", error)
            return str(error)
        except Exception as error:
            log.exception("failed")
            return f"{type(error).__name__}: {error}"
        return None
