"""Draw a project's report."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.sync.jobs.report import report_project
from dataminer.sync.jobs.rule_log import log_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with log_job(snakemake.log[0]):
    page = Path(snakemake.output.page)
    report_project(load(snakemake.config), snakemake.wildcards.project, page)
