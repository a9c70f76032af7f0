# On a cluster: one job for many videos. The cluster's profile says how long it may be and how many
# videos it works on at once (`job_minutes`, `job_slots`) and how many it may hold (group-components).
from collections import Counter

import snakemake_executor_plugin_slurm
from snakemake.scheduling.job_scheduler import JobScheduler


# what counts within one job, and not over the whole run
resource_scopes:
    job_slots="local",


LOST = Counter()
ask_slurm = snakemake_executor_plugin_slurm.query_job_status


async def states_of_jobs(command, log):
    """Slurm's states without additions: a "CANCELLED by 1000" would be waited on for ever."""
    states, seconds = await ask_slurm(command, log)
    plain = {job: state.partition(" ")[0] for job, state in (states or {}).items()}
    for job, state in plain.items():
        LOST[job] = LOST[job] + 1 if state in ("PREEMPTED", "NODE_FAIL") else 0
        # the plugin leaves these to Slurm; one that is not requeued would be waited on for ever
        if LOST[job] > 3:
            plain[job] = "CANCELLED"
    return plain if states is not None else None, seconds


# snakemake-executor-plugin-slurm 2.8.0; tests/slurm/test_slurm.py watches over it
snakemake_executor_plugin_slurm.query_job_status = states_of_jobs

BATCHED = "job_minutes" in workflow.global_resources

if BATCHED:
    # `cores: all` of the default profile is about the machine that this runs on, a login node
    workflow.global_resources["_cores"] = sys.maxsize

if not workflow.is_main_process:
    # Snakemake does not hand keep-going down into a cluster job: one video that fails must not keep
    # the others of its batch waiting
    JobScheduler.keepgoing = property(
        lambda scheduler: True, lambda scheduler, given: None
    )


@cache
def batch_numbers():
    """The number of the batch that each video of this run goes with."""
    limit = workflow.global_resources
    slots = limit["job_slots"].value if "job_slots" in limit else 1
    most = min(workflow.group_settings.group_components.values(), default=1)
    return wanted().batches(PROJECTS, limit["job_minutes"].value * slots, most)


def batch(kind):
    """Return the group of a rule: videos in one batch share one cluster job of each kind."""

    def group(wildcards):
        if not workflow.is_main_process:
            # Snakemake does not hand group-components down either: all that this job was given is one
            workflow.group_settings.group_components = {kind: sys.maxsize}
            return kind
        name = f"{kind}-{batch_numbers().get(wildcards.video_id, 0):05d}"
        workflow.parent_groupids[name] = kind  # for group-components
        return name

    return group if BATCHED or not workflow.is_main_process else None


def minutes(stage):
    """Return the run time that a stage asks for one video; a result that stands takes none."""

    def resource(wildcards, attempt):
        if not workflow.is_main_process:
            return 1
        return wanted().minutes(stage, wildcards, attempt)

    return resource
