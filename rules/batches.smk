# What a run begins with: rows take up what their files say, and the list of its batches is written.


rule take_up:
    output:
        done=temp(jobs.of_run("adopted")),
    log:
        "logs/take_up/{run}.log",
    localrule: True
    conda:
        "../envs/extract.yaml"
    message:
        "Rows take up what their files say"
    script:
        "../scripts/take_up.py"


rule batches:
    input:
        adopted=jobs.adopted,
    output:
        # not temporary: a missing temporary input is no reason for a job to run
        listed=jobs.of_run("batches.json"),
    log:
        "logs/batches/{run}.log",
    localrule: True
    conda:
        "../envs/extract.yaml"
    params:
        listed=jobs.listed,
        reasons=jobs.reasons,
    message:
        "Listing the batches of this run"
    script:
        "../scripts/batches.py"
