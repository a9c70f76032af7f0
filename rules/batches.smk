# What a run begins with: rows take up what their files say, and the list of its batches is written.


rule take_up:
    output:
        done=temp(str(RUNS / "adopted")),
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
        adopted=adopted,
    output:
        # not temporary: a missing temporary input is no reason for a job to run
        listed=str(RUNS / "batches.json"),
    log:
        "logs/batches/{run}.log",
    localrule: True
    conda:
        "../envs/extract.yaml"
    params:
        listed=lambda wildcards: (
            run().listed.told() if workflow.is_main_process else None
        ),
        reasons=lambda wildcards: (
            run().plan.reasons() if workflow.is_main_process else None
        ),
    message:
        "Listing the batches of this run"
    script:
        "../scripts/batches.py"
