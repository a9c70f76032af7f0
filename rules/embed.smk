# Models look at the frames of many videos in one process; what they saw is kept for every project.
# Filter judges and dedup compares by it, where the settings say so; else there are no jobs here.


wildcard_constraints:
    model_key=r"[A-Za-z0-9_.-]+",
    digest=r"[0-9a-f]{16}",


rule prompts:
    input:
        model=CHECKPOINT,
    output:
        prompts=update(str(STORE.prompts("{model_key}", "{digest}"))),
    log:
        "logs/prompts/{model_key}/{digest}.log",
    benchmark:
        "logs/benchmarks/prompts/{model_key}/{digest}.tsv"
    conda:
        "../envs/detect.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    message:
        "Embedding the prompts of the semantic filter"
    script:
        "../scripts/prompts.py"


rule embed:
    input:
        batches=rules.batches.output.listed,
        frames=frames_of_batch,
        models=model_files,
    output:
        # each video has a file of its own; this one only tells filter to go on
        done=temp(str(RUNS / "embed/{batch}.done")),
    log:
        "logs/embed/{run}/{batch}.log",
    conda:
        "../envs/detect.yaml"
    threads: 4
    resources:
        mem_mb=growing(6000),
        runtime=growing(240),
        gpu=int(FRAME_MODELS.on_gpu),
    params:
        videos=first_videos("embed"),
    message:
        "Models look at the frames of {params.videos}"
    script:
        "../scripts/embed.py"
