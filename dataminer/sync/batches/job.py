"""The job of a batch rule: a stage for each video of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dataminer.config import Config
from dataminer.sync.batches.batch import Batch
from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.batches.late_batches import LateBatches
from dataminer.sync.batches.rounds import BatchRounds, Resources
from dataminer.sync.claims import slurm


def workers_here(threads: int, requested_cores: int) -> int:
    """Return on how many videos a job works at once.

    Parameters
    ----------
    threads : int
        The job's threads, on this machine; 0 if it mostly waits.
    requested_cores : int
        The cores that it requested from Slurm; negative if none were to be requested.

    Returns
    -------
    int
        In a Slurm job, the cores that it has, up to those that it requested, since its memory is
        sized for them. Otherwise the threads.
    """
    cores = slurm.own_cores()
    if cores is None:
        return threads or max(requested_cores, 1)
    return min(cores, requested_cores) if requested_cores > 0 else cores


def run_job(
    stage: str,
    config: Config,
    batches_file: Path,
    wildcards: Mapping[str, str],
    *,
    workers: int,
    memory_mb: int,
    downloads: int = 1,
) -> None:
    """Run the job of a batch rule.

    Parameters
    ----------
    stage : str
        ``download``, ``extract`` or ``filter``.
    config : Config
        The settings.
    batches_file : Path
        The list of the run's batches.
    wildcards : Mapping
        The job's: ``batch`` and, for ``filter``, ``project``.
    workers, memory_mb, downloads : int
        See :func:`run_batch`.
    """
    project, name = wildcards.get("project"), wildcards["batch"]
    rule = f"{stage}/{project}" if project else stage
    batches = BatchList.read(batches_file)
    batch = Batch(stage, batches.videos(rule, name), project, stage in batches.forced)
    resources = Resources(workers, memory_mb, downloads, batches.workers(rule, name))
    late = LateBatches(batches, rule, name)
    with late.begun():
        BatchRounds(batch, config, resources, late).run()


def run_batch(
    batch: Batch,
    config: Config,
    *,
    workers: int,
    memory_mb: int,
    downloads: int = 1,
) -> None:
    """Run a stage for each video of a batch that is in no list.

    Parameters
    ----------
    batch : Batch
        The batch.
    config : Config
        The settings.
    workers : int
        How many videos at once.
    memory_mb : int
        The job's memory; each worker may use its share.
    downloads : int
        How many videos all workers together download at once.

    Raises
    ------
    DataminerError
        If videos are left that need another attempt of this job, or a change by whoever runs it:
        more memory, or what this machine lacks.
    """
    BatchRounds(batch, config, Resources(workers, memory_mb, downloads)).run()
