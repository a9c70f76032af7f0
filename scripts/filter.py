"""Choose one video's frames for one project."""

from dataminer.config import load
from dataminer.sync import jobs

with jobs.logged(snakemake.log[0]):
    wildcards = snakemake.wildcards
    jobs.filter_frames(load(snakemake.config), wildcards.project, wildcards.video_id)
