"""Run a stage for each video of a batch."""

import gc
import signal
from pathlib import Path
from typing import TYPE_CHECKING

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is a claim to release
gc.disable()  # useless while much is loaded; the batch enables it again

from dataminer.config import load_job  # noqa: E402
from dataminer.sync.batches import job  # noqa: E402
from dataminer.sync.jobs.rule_log import log_job  # noqa: E402

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log = Path(snakemake.log[0])
with log_job(str(log), video_logs=log.parents[1]):
    job.run_job(
        snakemake.params.stage,
        load_job(snakemake.config),
        Path(snakemake.params.batches),
        dict(snakemake.wildcards.items()),
        workers=job.workers_here(snakemake.threads, snakemake.resources.cpus_per_task),
        memory_mb=snakemake.resources.mem_mb,
        downloads=snakemake.resources.get("downloads", 1),
    )
    Path(snakemake.output.done).touch()
