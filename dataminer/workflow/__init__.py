"""Snakemake: a run's plan in batches, and what is changed in Snakemake itself."""
