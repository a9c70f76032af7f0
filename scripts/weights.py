"""Fetch the weights of a detector by name."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.sync.jobs import jobs
from dataminer.vision.weights import fetch_file

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.logged(snakemake.log[0]):
    fetch_file(Path(snakemake.output.weights))
