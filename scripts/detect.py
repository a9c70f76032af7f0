"""Annotate the unique frames of a project, and draw a sample of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.sync.batches.batch_list import forced_since
from dataminer.sync.jobs.detect import detect_project
from dataminer.sync.jobs.rule_log import log_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with log_job(snakemake.log[0]):
    detect_project(
        load(snakemake.config),
        snakemake.wildcards.project,
        Path(snakemake.input.weights),
        contact_sheet=Path(snakemake.output.contact_sheet),
        threads=snakemake.threads,
        forced_since=forced_since(snakemake.input.get("due"), "detect"),
    )
