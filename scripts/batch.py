"""Do a stage for each video of a batch."""

from pathlib import Path

from dataminer.config import load_job
from dataminer.sync import batch, jobs

log = Path(snakemake.log[0])
with jobs.logged(str(log), own_logs=log.parents[1]):
    batch.of_job(
        snakemake.params.stage,
        load_job(snakemake.config),
        Path(snakemake.params.batches),
        dict(snakemake.wildcards.items()),
        workers=snakemake.threads,
        memory_mb=snakemake.resources.mem_mb,
    )
    Path(snakemake.output.done).touch()
