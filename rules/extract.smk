# The frames of one video, with quality and hashes: one pass over the file.


rule extract:
    input:
        info=rules.download.output.info,
    output:
        frames=update(str(STORE.frames("{video_id}") / "frames.parquet")),
    log:
        "logs/extract/{video_id}.log",
    benchmark:
        "logs/benchmarks/extract/{video_id}.tsv"
    group:
        batch("frames")
    conda:
        "../envs/extract.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=minutes("extract"),
        job_slots=growing(1),
    params:
        settings=SETTINGS.extract.result_settings(),
        version=VERSIONS["extract"],
    message:
        "Extracting the frames of video {wildcards.video_id}"
    script:
        "../scripts/extract.py"
