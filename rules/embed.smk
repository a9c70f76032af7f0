# Models look at the frames of many videos in one process; what they saw is kept for every project.
# Filter judges and dedup compares by it, where the settings say so; else there are no jobs here.


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
        # each video has a file of its own; this one only tells filter to go on
        done=temp(jobs.of_run("embed/{batch}.done")),
    log:
        "logs/embed/{run}/{batch}.log",
    conda:
        "../envs/detect.yaml"
    threads: 4
    resources:
        mem_mb=jobs.growing(6000),
        runtime=jobs.growing(240),
        gpu=int(session.frame_models.on_gpu),
    params:
        videos=jobs.first_videos("embed"),
    message:
        "Models look at the frames of {params.videos}"
    script:
        "../scripts/embed.py"
