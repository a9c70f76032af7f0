"""Draw a project's report."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.sync.jobs import jobs
from dataminer.sync.jobs.report import report

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.logged(snakemake.log[0]):
    report(load(snakemake.config), snakemake.wildcards.project, Path(snakemake.output.page))
