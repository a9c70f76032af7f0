# dataminer: videos in, a clean, de-duplicated, annotated image dataset out.
#
#   download -> extract            once per video, for all projects
#   embed                          once per video and model, where filter asks for models
#   filter                         once per video and project
#   dedup -> detect -> report      once per project
from pathlib import Path

from snakemake.utils import min_version

min_version("9.17")

# a folder may have only other configuration files
if Path("config/config.yaml").exists():

    configfile: "config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/batches.smk"
include: "rules/download.smk"
include: "rules/extract.smk"
include: "rules/embed.smk"
include: "rules/filter.smk"
include: "rules/dedup.smk"
include: "rules/detect.smk"
include: "rules/report.smk"


localrules:
    all,
    only_download,
    only_extract,
    only_filter,
    only_dedup,


# ---- targets: everything, or everything up to a stage -----------------------------------------


rule all:
    default_target: True
    input:
        annotations=jobs.results("detect"),
        reports=jobs.results("report"),
        due=jobs.begins_with("dedup", "detect", "report"),


rule only_download:
    input:
        infos=lambda wildcards: jobs.done_files("download"),
        due=jobs.begins_with(),


rule only_extract:
    input:
        frames=lambda wildcards: jobs.done_files("extract"),
        due=jobs.begins_with(),


rule only_filter:
    input:
        filtered=jobs.filtered,
        due=jobs.begins_with(),


rule only_dedup:
    input:
        unique=jobs.results("dedup"),
        due=jobs.begins_with("dedup"),


# ---- update the database: before the first job, and after the last, however it ended -----------


onstart:
    hooks.start()


onsuccess:
    hooks.end()


onerror:
    hooks.end()
