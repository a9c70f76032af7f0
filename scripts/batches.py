"""Write down which videos each batch of this run holds."""

from pathlib import Path

from dataminer import batches
from dataminer.db import schema

schema.upgrade()
with open(snakemake.log[0], "w") as log:
    print(*snakemake.params.reasons, sep="\n", file=log)
listed = Path(snakemake.output.listed)
batches.remove_old(listed.parents[1])
batches.write(
    listed,
    snakemake.params.members,
    owner=snakemake.params.owner,
    slots=snakemake.params.slots,
    forced=snakemake.params.forced,
)
