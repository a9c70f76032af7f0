# The start of a run: record results found on disk, and write the list of batches.


rule take_up:
    output:
        done=temp(jobs.of_run("adopted")),
    log:
        "logs/take_up/{run}.log",
    localrule: True
    conda:
        "../envs/extract.yaml"
    message:
        "Recording results found on disk"
    script:
        "../scripts/take_up.py"


rule batches:
    input:
        adopted=jobs.adopted,
    output:
        # not temporary: a missing temporary input does not make a job run
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
