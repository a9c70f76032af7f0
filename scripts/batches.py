"""Write down which videos each batch of this run holds."""

from pathlib import Path

from dataminer.batches import Listed, remove_old
from dataminer.db import schema

schema.upgrade()
with open(snakemake.log[0], "w") as log:
    print(*snakemake.params.reasons, sep="\n", file=log)
folder = Path(snakemake.output.listed).parent
remove_old(folder.parent)
Listed(folder, **snakemake.params.listed).write()
