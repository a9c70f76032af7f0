"""Fetch the weights of a detector by name."""

from pathlib import Path

from dataminer.sync.jobs import jobs
from dataminer.vision.weights import fetch_file

with jobs.logged(snakemake.log[0]):
    fetch_file(Path(snakemake.output.weights))
