# The frames of videos, with quality and hashes: one pass over each file.


rule extract:
    input:
        downloaded=after("download"),
    output:
        done=temp(str(RUNS / "extract/{batch}.done")),
    log:
        "logs/extract/{run}/{batch}.log",
    group:
        "batch"
    conda:
        "../envs/extract.yaml"
    threads: workers("extract")
    resources:
        cpus_per_task=workers("extract"),
        mem_mb=of_each_worker(1200, "extract"),
        runtime=minutes("extract"),
    params:
        stage="extract",
        batches=list_of_run,
        videos=first_videos("extract"),
    message:
        "Extracting the frames of {params.videos}"
    script:
        "../scripts/batch.py"


rule extract_video:
    input:
        info=rules.download_video.output.info,
    output:
        frames=update(str(STORE.frames("{video_id}") / "frames.parquet")),
    log:
        "logs/extract/{video_id}.log",
    conda:
        "../envs/extract.yaml"
    resources:
        mem_mb=growing(1200),
    params:
        stage="extract",
    message:
        "Extracting the frames of video {wildcards.video_id}"
    script:
        "../scripts/video.py"
