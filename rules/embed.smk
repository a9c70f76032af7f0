# Run models on the frames of many videos in one process; all projects share the outputs. Filter and
# dedup use them if the settings say so; otherwise there are no jobs of these rules.


wildcard_constraints:
    model_key=r"[A-Za-z0-9_.-]+",
    digest=r"[0-9a-f]{16}",


rule prompts:
    input:
        model=jobs.checkpoint(),
    output:
        prompts=update(str(store.prompts("{model_key}", "{digest}"))),
    log:
        "logs/prompts/{model_key}/{digest}.log",
    benchmark:
        "logs/benchmarks/prompts/{model_key}/{digest}.tsv"
    conda:
        "../envs/detect.yaml"
    resources:
        mem_mb=jobs.growing(4000),
        runtime=jobs.growing(30),
    message:
        "Embedding the prompts of the semantic filter"
    script:
        "../scripts/prompts.py"


rule embed:
    input:
        batches=rules.batches.output.listed,
        frames=jobs.frames_of_batch,
        models=jobs.model_files,
    output:
        # the outputs are one file per video; this file only lets filter start
        done=temp(jobs.of_run("embed/{batch}.done")),
    log:
        "logs/embed/{run}/{batch}.log",
    conda:
        "../envs/detect.yaml"
    threads: 4
    resources:
        mem_mb=jobs.growing(session.frame_models.memory_mb),
        runtime=jobs.growing(240),
        gpu=int(session.frame_models.on_gpu),
    params:
        videos=jobs.first_videos("embed"),
    message:
        "Running models on the frames of {params.videos}"
    script:
        "../scripts/embed.py"
