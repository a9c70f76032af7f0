"""Download the weights of a detector by name."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.sync.jobs.rule_log import log_job
from dataminer.vision.weights import fetch_file

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with log_job(snakemake.log[0]):
    fetch_file(Path(snakemake.output.weights))
