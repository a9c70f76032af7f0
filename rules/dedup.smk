# One frame per group of near-duplicates, across all videos of a project.


rule dedup:
    input:
        filtered=lambda wildcards: jobs.done_files(f"filter/{wildcards.project}"),
        looked=jobs.model_outputs_of_project,
        due=jobs.if_due("dedup"),
    output:
        frames=update(str(store.dedup("{project}") / "frames.parquet")),
        clusters=update(str(store.dedup("{project}") / "clusters.parquet")),
    log:
        "logs/dedup/{project}.log",
    benchmark:
        "logs/benchmarks/dedup/{project}.tsv"
    conda:
        "../envs/extract.yaml"
    # to make thumbnails of frames that have none yet
    threads: 2
    resources:
        mem_mb=jobs.growing(2000),
        runtime=jobs.growing(120),
    message:
        "Looking for near-duplicates in project {wildcards.project}"
    script:
        "../scripts/dedup.py"
