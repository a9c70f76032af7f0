# Select the frames that are good enough for one project, by quality columns and model outputs.


rule filter:
    input:
        extracted=jobs.after("extract"),
        looks=jobs.model_outputs,
    output:
        done=temp(jobs.of_run("filter/{project}/{batch}.done")),
    log:
        "logs/filter/{project}/{run}/{batch}.log",
    group:
        # those of extract, unless models run in between
        None if session.frame_models.on else "batch"
    conda:
        "../envs/extract.yaml"
    threads: jobs.workers("filter/{project}")
    resources:
        cpus_per_task=jobs.workers("filter/{project}"),
        mem_mb=jobs.per_worker(500, "filter/{project}"),
        runtime=jobs.minutes("filter/{project}"),
    params:
        stage="filter",
        batches=jobs.batch_list_of_run,
        videos=jobs.first_videos("filter/{project}"),
    message:
        "Filtering the frames of {params.videos} for project {wildcards.project}"
    script:
        "../scripts/batch.py"


rule filter_video:
    input:
        frames=rules.extract_video.output.frames,
    output:
        frames=update(str(store.filtered("{project}", "{video_id}") / "frames.parquet")),
    log:
        "logs/filter/{project}/{video_id}.log",
    conda:
        "../envs/extract.yaml"
    resources:
        mem_mb=jobs.growing(500),
    params:
        stage="filter",
    message:
        "Filtering the frames of video {wildcards.video_id} for project {wildcards.project}"
    script:
        "../scripts/video.py"
