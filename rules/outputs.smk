# What becomes of outputs when a job fails: where several runs share a store, Snakemake 9.27 on its own
# would spoil other runs' results. Reaches into Snakemake; tests/faults/test_runs.py watches over it.
from snakemake.persistence import FileBackupMixin


def stands(persistence, path):
    """Tell that an output stands, in place of laying its backup over it."""
    return path.exists()


# When a job fails, Snakemake puts its `update` outputs back as they were, or deletes them. Here they
# appear whole or not at all, and may be what another run has published meanwhile: they stay.
FileBackupMixin.backup_output = lambda persistence, path: None
FileBackupMixin.restore_output = stands


def keep_failed_due():
    """Have the next run make again what failed in this one.

    Snakemake records a failed job's settings as it does a finished one's. Where an older result
    stands, which `update` outputs leave in place, it would pass for one with the new settings.
    """
    for job in workflow.dag.needrun_jobs():
        failed = job in workflow.scheduler.failed or job.attempt > 1
        if failed and not workflow.dag.finished(job):
            job.register()
