# What models have to look at: a batch of videos in each job of rule embed.
from functools import partial

from dataminer.stages.checkpoint import require_transformers
from dataminer.stages.hub import CONFIG_FILE
from dataminer.stages.looking import Looking, write_list

LOOKING = Looking.of(SETTINGS)
CHECKPOINT = []
if LOOKING.embeds:
    CHECKPOINT = [str(or_exit(lambda: LOOKING.checkpoint) / CONFIG_FILE)]
    # with --sdm conda the libraries are where the jobs run, and need not be here
    if workflow.is_main_process and not workflow.deployment_settings.deployment_method:
        or_exit(require_transformers)


def looking_models(wildcards):
    """The files of the models that look; rules weights and model_folder fetch them."""
    content = SETTINGS.filter.content
    weights = [weights_file(content.model)] if content.on else []
    return [*CHECKPOINT, *weights]


@cache
def batches_to_look_at():
    """The videos of each batch that a model has not seen; one process goes through a batch."""
    models = [Path(model) for model in looking_models(None)]
    find = partial(wanted().unseen, everyone=LOOKING.compares)
    return LOOKING.batches(or_exit(find, PROJECTS, LOOKING.results, models), PROJECTS)


@cache
def batch_of():
    """The batch that each video goes with, for those that a model has not seen."""
    batches = batches_to_look_at().items()
    return {video_id: name for name, videos in batches for video_id in videos}


def looked_at(wildcards):
    """What must be there before a video is filtered; a job on a node asks for none of it."""
    if not LOOKING.on or not workflow.is_main_process:
        return []
    prompts = [str(LOOKING.prompts)] if SETTINGS.filter.semantic.on else []
    name = batch_of().get(wildcards.video_id)
    return [*prompts, str(STORE.batch(name))] if name else prompts


def looked_at_of_project(wildcards):
    """What must be there before dedup compares embeddings; a job on a node asks for none of it."""
    if not LOOKING.compares or not workflow.is_main_process:
        return []
    mine = or_exit(targets.video_ids, wildcards.project)
    names = dict.fromkeys(batch_of()[video] for video in mine if video in batch_of())
    return [str(STORE.batch(name)) for name in names]


def dedup_settings():
    """Dedup's settings, and the model whose embeddings it compares."""
    model = {"model": LOOKING.key} if LOOKING.compares else {}
    return SETTINGS.dedup.result_settings() | model


def frames_of_batch(wildcards):
    """The frame tables of a batch; a job on a node asks for none."""
    if not workflow.is_main_process:
        return []
    videos = batches_to_look_at().get(wildcards.batch, ())
    return [str(STORE.frames(video_id) / "frames.parquet") for video_id in videos]


def list_batches():
    """Write down which videos each batch of this run holds, for its job, which may be on a node."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "embed":
            name = job.wildcards.batch
            write_list(STORE.batch(name), batches_to_look_at()[name])
