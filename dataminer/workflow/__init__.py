"""Snakemake: the plan of a run in batches, and changes to Snakemake itself."""
