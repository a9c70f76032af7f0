"""The `snakemake` command, but for the pauses of the Slurm plugin between two looks at its jobs.

The plugin adds ten seconds to its pause each time that no job has ended, up to three minutes, and
has no option against that. Here each pause is a second; all else is as users have it.
"""

import sys

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

PAUSE = "next_seconds_between_status_checks"
assert isinstance(getattr(Executor, PAUSE), property)
setattr(Executor, PAUSE, property(lambda executor: 1, lambda executor, seconds: None))

sys.exit(main())
