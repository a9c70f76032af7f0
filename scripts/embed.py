"""Run the frame models on a batch of videos."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.sync.batches import embed_batch
from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.jobs import candidate_frames
from dataminer.sync.jobs.rule_log import log_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models exist or were downloaded before
with log_job(snakemake.log[0]):
    videos = BatchList.read(Path(snakemake.input.batches)).videos(
        "embed", snakemake.wildcards.batch
    )
    config = load(snakemake.config)
    embed_batch.run_models(
        config, candidate_frames.folders_of(config, videos), threads=snakemake.threads
    )
    Path(snakemake.output.done).touch()
