"""Keep one frame per group of near-duplicates of a project."""

from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.sync.batches.batch_list import forced_since
from dataminer.sync.jobs.dedup import dedup_project
from dataminer.sync.jobs.rule_log import log_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with log_job(snakemake.log[0]):
    since = forced_since(snakemake.input.get("due"), "dedup")
    dedup_project(
        load(snakemake.config),
        snakemake.wildcards.project,
        forced=since is not None,
        threads=snakemake.threads,
    )
