"""Run the frame models on a batch of videos, in a worker process whose loss costs one video."""

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
from dataminer.sync.workers import pool
from dataminer.sync.workers.tasks import Limits, Lost, Serial

log = logging.getLogger("dataminer")

_MOST_FAILURES = 3  # in a row, one by one: then the machine or the model is at fault


def run_models(config: Config, frames: Mapping[str, Collection[Path]], *, threads: int) -> None:
    """Run the models in use on videos that have no model outputs yet, all in one process.

    It loads each model once and fills its batches across videos. If it fails, crashes or hangs, the
    videos are processed one by one, and only those at fault fail.

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
        If videos are left without model outputs.
    """
    run = _ModelRun(config, frames, threads)
    failed = run.try_each([tuple(frames)])
    if failed and len(frames) > 1:
        log.warning("%s; the models now run on the videos one by one", failed[0])
        failed = run.try_each((video_id,) for video_id in frames)
    if failed:
        more = f" (and {len(failed) - 1} more, see the log)" if len(failed) > 1 else ""
        raise DataminerError(f"{failed[0]}{more}")


@dataclass(frozen=True)
class _ModelRun:
    config: Config
    frames: Mapping[str, Collection[Path]]
    threads: int

    def try_each(self, groups: Iterable[tuple[str, ...]]) -> list[str]:
        """Run the models on groups of videos; return errors, and stop after too many in a row."""
        limits = Limits.of(self.config.monitor, sys.maxsize)  # a model's memory is not limited
        failed, in_a_row = [], 0
        mode = Serial(self._run_models)
        outcomes = pool.run(groups, mode, workers=1, limits=limits, settle=lambda *_: None)
        with closing(outcomes):
            for videos, outcome in outcomes:
                error = outcome.how if isinstance(outcome, Lost) else outcome
                in_a_row = in_a_row + 1 if error else 0
                if error:
                    failed.append(f"{videos[0]}: {error}" if len(videos) == 1 else error)
                if in_a_row == _MOST_FAILURES:
                    break
        return failed

    def _run_models(self, videos: tuple[str, ...]) -> str | None:
        """Run the models on some videos, in the worker; return the error if that failed."""
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
