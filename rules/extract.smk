# Extract the frames of videos, with quality and hashes: one pass over each file.


rule extract:
    input:
        downloaded=jobs.after("download"),
    output:
        done=temp(jobs.of_run("extract/{batch}.done")),
    log:
        "logs/extract/{run}/{batch}.log",
    group:
        "batch"
    conda:
        "../envs/extract.yaml"
    threads: jobs.workers("extract")
    resources:
        cpus_per_task=jobs.workers("extract"),
        mem_mb=jobs.per_worker(1200, "extract"),
        runtime=jobs.minutes("extract"),
    params:
        stage="extract",
        batches=jobs.batch_list_of_run,
        videos=jobs.first_videos("extract"),
    message:
        "Extracting the frames of {params.videos}"
    script:
        "../scripts/batch.py"


rule extract_video:
    input:
        info=rules.download_video.output.info,
    output:
        frames=update(str(store.frames("{video_id}") / "frames.parquet")),
    log:
        "logs/extract/{video_id}.log",
    conda:
        "../envs/extract.yaml"
    resources:
        mem_mb=jobs.growing(1200),
    params:
        stage="extract",
    message:
        "Extracting the frames of video {wildcards.video_id}"
    script:
        "../scripts/video.py"
