# What models have to look at: a batch of videos in each job of rule embed.
from dataminer.vision.checkpoint import require_transformers
from dataminer.vision.hub import CONFIG_FILE
from dataminer.stages.embed.frame_models import FrameModels

FRAME_MODELS = FrameModels.of(SETTINGS)
CHECKPOINT = []
if FRAME_MODELS.embeds:
    CHECKPOINT = [str(or_exit(lambda: FRAME_MODELS.checkpoint) / CONFIG_FILE)]
    # with --sdm conda the libraries are where the jobs run, and need not be here
    if workflow.is_main_process and not workflow.deployment_settings.deployment_method:
        or_exit(require_transformers)


def model_files(wildcards):
    """The files of the models that look; rules weights and model_folder fetch them."""
    content = SETTINGS.filter.content
    return [*CHECKPOINT, *([weights_file(content.model)] if content.on else [])]


def looked_at(wildcards):
    """What must be there before a batch is filtered; a job on a node asks for none of it."""
    if not FRAME_MODELS.on or not workflow.is_main_process:
        return []
    prompts = [str(FRAME_MODELS.prompts)] if SETTINGS.filter.semantic.on else []
    return [
        *map(ancient, prompts),
        *run().model_outputs(wildcards.project, wildcards.batch),
    ]


def looked_at_of_project(wildcards):
    """What must be there before dedup compares embeddings; a job on a node asks for none of it."""
    if not FRAME_MODELS.compares or not workflow.is_main_process:
        return []
    return run().model_outputs(wildcards.project)


def frames_of_batch(wildcards):
    """What must be done before models look at a batch; a job on a node asks for none of it."""
    return run().extracted(wildcards.batch) if workflow.is_main_process else []
