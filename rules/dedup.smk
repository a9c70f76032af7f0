# One frame of each group of near-duplicates, across all videos of a project.


rule dedup:
    input:
        filtered=lambda wildcards: marks(f"filter/{wildcards.project}"),
        looked=looked_at_of_project,
        due=if_due("dedup"),
    output:
        frames=update(str(STORE.dedup("{project}") / "frames.parquet")),
        clusters=update(str(STORE.dedup("{project}") / "clusters.parquet")),
    log:
        "logs/dedup/{project}.log",
    benchmark:
        "logs/benchmarks/dedup/{project}.tsv"
    conda:
        "../envs/extract.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
    message:
        "Looking for near-duplicates in project {wildcards.project}"
    script:
        "../scripts/dedup.py"
