"""Write the list of this run's batches."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataminer.db import schema
from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.batches.old_runs import remove_old

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

schema.upgrade()
with open(snakemake.log[0], "w") as log:
    print(*snakemake.params.reasons, sep="\n", file=log)
folder = Path(snakemake.output.listed).parent
remove_old(folder.parent, logs=Path(snakemake.log[0]).parents[1])
BatchList(folder, **snakemake.params.listed).write()
