# Videos into the store: yt-dlp for URLs, a link or a copy for local files.


rule download:
    input:
        batches=rules.batches.output.listed,
    output:
        done=temp(str(RUNS / "download/{batch}.done")),
    log:
        "logs/download/{run}/{batch}.log",
    conda:
        "../envs/download.yaml"
    # mostly waits: what extracts meanwhile has all cores, and `downloads` bounds how many there are
    threads: 0
    resources:
        downloads=downloads,
        cpus_per_task=workers("download"),
        mem_mb=of_each_worker(500, "download"),
        runtime=minutes("download"),
    params:
        stage="download",
        batches=list_of_run,
        videos=first_videos("download"),
    message:
        "Downloading {params.videos}"
    script:
        "../scripts/batch.py"


# for whoever asks for a video's file by name
rule download_video:
    output:
        # another run may be making this very video: never deleted, replaced as a whole
        info=update(str(STORE.video("{video_id}") / INFO_FILE)),
    log:
        "logs/download/{video_id}.log",
    conda:
        "../envs/download.yaml"
    resources:
        downloads=1,
        mem_mb=growing(500),
    params:
        stage="download",
    message:
        "Downloading video {wildcards.video_id}"
    script:
        "../scripts/video.py"
