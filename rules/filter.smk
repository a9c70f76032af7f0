# The frames that are good enough for one project: judged by their columns, and by what models saw in
# them.


rule filter:
    input:
        extracted=after("extract"),
        looks=looked_at,
    output:
        done=temp(str(RUNS / "filter/{project}/{batch}.done")),
    log:
        "logs/filter/{project}/{run}/{batch}.log",
    group:
        # extract's, unless something comes in between
        None if FRAME_MODELS.on else "batch"
    conda:
        "../envs/extract.yaml"
    threads: workers("filter/{project}")
    resources:
        cpus_per_task=workers("filter/{project}"),
        mem_mb=of_each_worker(500, "filter/{project}"),
        runtime=minutes("filter/{project}"),
    params:
        stage="filter",
        batches=list_of_run,
        videos=first_videos("filter/{project}"),
    message:
        "Filtering the frames of {params.videos} for project {wildcards.project}"
    script:
        "../scripts/batch.py"


rule filter_video:
    input:
        frames=rules.extract_video.output.frames,
    output:
        frames=update(str(STORE.filtered("{project}", "{video_id}") / "frames.parquet")),
    log:
        "logs/filter/{project}/{video_id}.log",
    conda:
        "../envs/extract.yaml"
    resources:
        mem_mb=growing(500),
    params:
        stage="filter",
    message:
        "Filtering the frames of video {wildcards.video_id} for project {wildcards.project}"
    script:
        "../scripts/video.py"
