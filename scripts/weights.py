"""Fetch the weights of a detector by name."""

from pathlib import Path

from dataminer.stages.weights import fetch_file
from dataminer.sync import jobs

with jobs.logged(snakemake.log[0]):
    fetch_file(Path(snakemake.output.weights))
