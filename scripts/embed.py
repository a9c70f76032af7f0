"""Have models look at the frames of a batch of videos."""

import logging
import os
from pathlib import Path

from dataminer.config import load
from dataminer.stages.looking import Looking
from dataminer.sync import jobs

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models are there, or fetched before
with jobs.logged(snakemake.log[0]):
    looking = Looking.of(load(snakemake.config))
    done = Path(snakemake.output.done)
    looking.look_at(done, snakemake.threads, logging.getLogger("dataminer").info)
