# The frames of one video that are good enough for one project: judged by their columns, and by what
# models saw in them.


rule filter:
    input:
        frames=rules.extract.output.frames,
        looks=looked_at,
    output:
        frames=update(str(STORE.filtered("{project}", "{video_id}") / "frames.parquet")),
    log:
        "logs/filter/{project}/{video_id}.log",
    benchmark:
        "logs/benchmarks/filter/{project}/{video_id}.tsv"
    group:
        # extract's group, but for what comes in between
        batch("filter" if LOOKING.on else "frames")
    conda:
        "../envs/extract.yaml"
    resources:
        mem_mb=growing(500),
        runtime=minutes("filter"),
        job_slots=growing(1),
    params:
        settings=SETTINGS.filter.result_settings(),
        version=VERSIONS["filter"],
    message:
        "Filtering the frames of video {wildcards.video_id} for project {wildcards.project}"
    script:
        "../scripts/filter.py"
