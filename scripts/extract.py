"""Take the frames out of one video."""

from dataminer.config import load
from dataminer.sync import jobs

with jobs.logged(snakemake.log[0]):
    jobs.extract(load(snakemake.config), snakemake.wildcards.video_id, snakemake.threads)
