"""Fetch one video into the store."""

from dataminer.config import load_job
from dataminer.sync import jobs

with jobs.logged(snakemake.log[0]):
    jobs.download(load_job(snakemake.config), snakemake.wildcards.video_id)
