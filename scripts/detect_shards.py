"""Detect objects in one job's part of a project's unique frames."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.sync.batches.batch_list import forced_since
from dataminer.sync.jobs.detect import detect_shards
from dataminer.sync.jobs.rule_log import log_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with log_job(snakemake.log[0]):
    detect_shards(
        load(snakemake.config),
        snakemake.wildcards.project,
        Path(snakemake.input.weights),
        part=int(snakemake.wildcards.part),
        threads=snakemake.threads,
        forced_since=forced_since(snakemake.input.get("due"), "detect"),
    )
    Path(snakemake.output.done).touch()
