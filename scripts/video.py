"""Run a stage for one video."""

from typing import TYPE_CHECKING

from dataminer.config import load_job
from dataminer.sync.batches.batch import Batch
from dataminer.sync.batches.job import run_batch
from dataminer.sync.jobs.extract import link_frames
from dataminer.sync.jobs.rule_log import log_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with log_job(snakemake.log[0]):
    config, wildcards = load_job(snakemake.config), dict(snakemake.wildcards.items())
    run_batch(
        Batch(snakemake.params.stage, [wildcards["video_id"]], wildcards.get("project")),
        config,
        workers=1,
        memory_mb=snakemake.resources.mem_mb,
    )
    if snakemake.params.stage == "extract":
        link_frames(config, wildcards["video_id"])
