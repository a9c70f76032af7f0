# Objects in the unique frames of a project, as COCO and as YOLO labels.


rule weights:
    output:
        weights=str(MODELS / "{weights}"),
    log:
        "logs/weights/{weights}.log",
    benchmark:
        "logs/benchmarks/weights/{weights}.tsv"
    # Highest priority: a run that cannot get its model says so at once, not after hours of other work
    priority: 100
    localrule: True
    conda:
        "../envs/detect.yaml"
    message:
        "Fetching the weights {wildcards.weights}"
    script:
        "../scripts/weights.py"


# a model of the Hugging Face Hub is a folder
use rule weights as model_folder with:
    output:
        weights=str(MODELS / "{weights}" / "config.json"),
    log:
        "logs/weights/{weights}.log",
    benchmark:
        "logs/benchmarks/weights/{weights}.tsv"


# One of the `detect.jobs` that share the frames of a project; their results are stored as shards
rule detect_shards:
    input:
        unique=jobs.unique_frames,
        weights=jobs.detect_weights,
        due=jobs.if_due("detect"),
    output:
        done=temp(str(store.detect_shards("{project}") / "{part}-of-{parts}.done")),
    log:
        "logs/detect_shards/{project}/{part}-of-{parts}.log",
    benchmark:
        "logs/benchmarks/detect_shards/{project}/{part}-of-{parts}.tsv"
    conda:
        "../envs/detect.yaml"
    threads: 4
    resources:
        mem_mb=jobs.growing(4000),
        runtime=jobs.growing(240),
        gpu=int(settings.detect.device.startswith("cuda")),
    message:
        "Looking for objects, part {wildcards.part} of {wildcards.parts}, project {wildcards.project}"
    script:
        "../scripts/detect_shards.py"


rule detect:
    input:
        unique=jobs.unique_frames,
        weights=jobs.detect_weights,
        due=jobs.if_due("detect"),
        # empty for a single job, which then detects objects in this rule
        shards=jobs.shards,
    output:
        annotations=update(str(store.detect("{project}") / "annotations.json")),
        data=update(str(store.detect("{project}") / "data.yaml")),
        contact_sheet=report(
            str(store.report("{project}") / SHEET_FILE),
            category="Datasets",
            labels={"project": "{project}", "figure": "contact sheet"},
            caption="../report/contact_sheet.rst",
        ),
    log:
        "logs/detect/{project}.log",
    benchmark:
        "logs/benchmarks/detect/{project}.tsv"
    conda:
        "../envs/detect.yaml"
    threads: 4
    resources:
        mem_mb=jobs.growing(4000),
        runtime=jobs.growing(240),
        # requested if the settings say so; `auto` uses one that set-resources requests
        gpu=int(settings.detect.device.startswith("cuda") and settings.detect.jobs == 1),
    message:
        "Annotating the unique frames of project {wildcards.project}"
    script:
        "../scripts/detect.py"
