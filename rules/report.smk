# One page a project that shows what was mined: drawn where Snakemake runs, in a second or a few.


rule report:
    input:
        annotations=rules.detect.output.annotations,
    output:
        page=report(
            str(STORE.report("{project}") / "index.html"),
            category="Datasets",
            labels={"project": "{project}", "figure": "report"},
            caption="../report/project.rst",
        ),
    log:
        "logs/report/{project}.log",
    benchmark:
        "logs/benchmarks/report/{project}.tsv"
    localrule: True
    conda:
        "../envs/extract.yaml"
    params:
        settings=result_settings(SETTINGS),
        version=VERSIONS["report"],
    message:
        "Drawing the report of project {wildcards.project}"
    script:
        "../scripts/report.py"
