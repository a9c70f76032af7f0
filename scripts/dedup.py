"""Keep one frame of each group of near-duplicates of a project."""

from dataminer.config import load
from dataminer.sync import jobs

with jobs.logged(snakemake.log[0]):
    jobs.dedup(load(snakemake.config), snakemake.wildcards.project)
