"""Embed the prompts of the semantic filter."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.config import load
from dataminer.stages.embed.semantic import write_prompts
from dataminer.sync.jobs.rule_log import log_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models exist or were downloaded before
with log_job(snakemake.log[0]):
    write_prompts(
        Path(snakemake.output.prompts),
        load(snakemake.config).filter.semantic.prompts,
        Path(snakemake.input[0]).parent,
        logging.getLogger("dataminer").info,
    )
