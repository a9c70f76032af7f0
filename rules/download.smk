# One video into the store: yt-dlp for URLs, a link or a copy for local files.


rule download:
    output:
        # another run may be making this very video: never deleted, replaced as a whole
        info=update(str(STORE.video("{video_id}") / "info.json")),
    log:
        "logs/download/{video_id}.log",
    benchmark:
        "logs/benchmarks/download/{video_id}.tsv"
    group:
        batch("download")
    conda:
        "../envs/download.yaml"
    resources:
        downloads=1,
        mem_mb=growing(500),
        runtime=minutes("download"),
        job_slots=growing(1),
    params:
        settings=SETTINGS.download.result_settings(),
        policy=policy_of,
        version=VERSIONS["download"],
    message:
        "Downloading video {wildcards.video_id}"
    script:
        "../scripts/download.py"
