"""Do a stage for one video."""

from dataminer.config import load_job
from dataminer.sync import jobs
from dataminer.sync.batch import Batch, perform

with jobs.logged(snakemake.log[0]):
    wildcards = dict(snakemake.wildcards.items())
    perform(
        Batch(snakemake.params.stage, [wildcards["video_id"]], wildcards.get("project")),
        load_job(snakemake.config),
        workers=1,
        memory_mb=snakemake.resources.mem_mb,
    )
