# Download videos into the store: yt-dlp for URLs, a link or a copy for local files.


rule download:
    input:
        batches=rules.batches.output.listed,
    output:
        done=temp(jobs.of_run("download/{batch}.done")),
    log:
        "logs/download/{run}/{batch}.log",
    conda:
        "../envs/download.yaml"
    # Mostly waiting: other jobs can use all cores, and `downloads` limits how many run in parallel
    threads: 0
    resources:
        downloads=jobs.downloads,
        cpus_per_task=jobs.workers("download"),
        mem_mb=jobs.per_worker(500, "download"),
        runtime=jobs.minutes("download"),
    params:
        stage="download",
        batches=jobs.batch_list_of_run,
        videos=jobs.first_videos("download"),
    message:
        "Downloading {params.videos}"
    script:
        "../scripts/batch.py"


# for users who request a video's file by name
rule download_video:
    output:
        # another run may be making the same video: never deleted, only replaced atomically
        info=update(str(store.video("{video_id}") / INFO_FILE)),
    log:
        "logs/download/{video_id}.log",
    conda:
        "../envs/download.yaml"
    resources:
        downloads=1,
        mem_mb=jobs.growing(500),
    params:
        stage="download",
    message:
        "Downloading video {wildcards.video_id}"
    script:
        "../scripts/video.py"
