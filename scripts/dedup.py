"""Keep one frame of each group of near-duplicates of a project."""

from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.sync.batches.planned import forced_since
from dataminer.sync.jobs import jobs

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.logged(snakemake.log[0]):
    since = forced_since(snakemake.input.get("due"), "dedup")
    jobs.dedup(load(snakemake.config), snakemake.wildcards.project, forced=since is not None)
