"""Record results found on disk in the database."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import load_job
from dataminer.db import schema
from dataminer.sync.jobs.rule_log import log_job
from dataminer.sync.repair.record_results import record_results

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with log_job(snakemake.log[0]):
    schema.upgrade()
    record_results(load_job(snakemake.config))
    Path(snakemake.output.done).touch()
