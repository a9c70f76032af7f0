# One page per project that shows the results; made on Snakemake's machine within seconds.


rule report:
    input:
        annotations=jobs.annotations,
        due=jobs.if_due("report"),
    output:
        page=report(
            str(store.report("{project}") / "index.html"),
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
    message:
        "Drawing the report of project {wildcards.project}"
    script:
        "../scripts/report.py"
