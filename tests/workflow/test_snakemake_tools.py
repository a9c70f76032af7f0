"""Snakemake's own tools work as their users expect, and looking changes nothing."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.support.paths import ROOT
from tests.support.site import Site, jobs

LOOKS = [
    ("snakemake", "-n"),
    ("snakemake", "-n", "--forceall"),
    ("snakemake", "--dag"),
    ("snakemake", "--rulegraph"),
    ("snakemake", "--filegraph"),
    ("snakemake", "--summary"),
    ("snakemake", "--lint"),
    ("snakemake", "--list-rules"),
    ("snakemake", "--profile", str(ROOT / "slurm"), "-n", "--forceall"),
    ("dataminer", "status"),
    ("dataminer", "status", "--json"),
]


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_looking_leaves_database_and_store_unchanged(mined: Site, command):
    before = mined.dump(), mined.listing()
    program, *arguments = command
    done = getattr(mined, program)(*arguments)
    assert done.returncode == 0, done.stderr
    assert (mined.dump(), mined.listing()) == before


@pytest.mark.parametrize("option", ["--dag", "--rulegraph"])
def test_graphs_can_be_drawn(first_run, option):
    if not shutil.which("dot"):
        pytest.skip("graphviz is not installed")
    site, _ = first_run
    graph = site.snakemake(option).stdout
    assert graph.startswith("digraph")
    drawn = subprocess.run(
        ["dot", "-Tsvg"], input=graph, capture_output=True, text=True, check=True
    )
    assert "</svg>" in drawn.stdout
    assert "detect" in drawn.stdout


def test_the_report_writes_its_page(mined: Site):
    done = mined.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stderr
    page = (mined.folder / "report.html").read_text()
    assert "contact sheet" in page
    assert "index.html" in page
    assert "What was mined for project birds" in page
    assert "de-duplicated" in page


def test_the_workflow_is_in_good_condition():
    lint = subprocess.run(["snakemake", "--lint"], cwd=ROOT, capture_output=True, text=True)
    assert "good condition" in lint.stderr + lint.stdout, lint.stderr + lint.stdout
    files = ["Snakefile", *sorted(str(path) for path in (ROOT / "rules").glob("*.smk"))]
    subprocess.run(["snakefmt", "--check", *files], cwd=ROOT, capture_output=True, check=True)


def test_the_slurm_profile_is_found_by_its_name_at_the_root():
    done = subprocess.run(
        ["snakemake", "--profile", "slurm", "--lint"], cwd=ROOT, capture_output=True, text=True
    )
    assert re.search(r"Using profiles? slurm", done.stderr), done.stderr


def test_the_second_run_has_nothing_to_do(mined: Site):
    before = mined.dump(), mined.listing()
    done = mined.mine()
    assert jobs(done) == {}
    assert "Nothing to be done" in done.stderr
    assert (mined.dump(), mined.listing()) == before


BAD_CONFIG = [
    ({"fliter": {}}, "fliter: unknown key; did you mean `filter`?"),
    ({"filter": {"min_sharpness": "much"}}, "filter.min_sharpness: must be a valid number"),
    ({"detect": {"confidence": 7}}, "detect.confidence: must be less than or equal to 1, got 7"),
    ({"detect": {"model": "no/such/file.pt"}}, "there is no file no/such/file.pt"),
    ({"detect": {"model": "nosuch.pt"}}, "ultralytics publishes no weights named nosuch.pt"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD_CONFIG, ids=lambda value: str(value)[:30])
def test_a_bad_config_ends_with_one_sentence(mined: Site, change, sentence):
    mined.configure(**{**mined.config(), **change})
    for done in (mined.snakemake("-n"), mined.dataminer("populate")):
        if "detect" in change and "model" in change["detect"] and "snakemake" not in done.args[0]:
            continue
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if "dataminer: " in line]
        assert sentence in line
        assert "Next: " in line
        assert "Traceback" not in done.stderr


def test_an_unreachable_database_ends_with_one_sentence(mined: Site):
    url = "postgresql://me:secret@127.0.0.1:1/mining"
    for done in (
        mined.snakemake("-n", DATABASE_URL=url),
        mined.snakemake("-c2", DATABASE_URL=url),
        mined.dataminer("status", DATABASE_URL=url),
    ):
        assert done.returncode == 1
        assert "cannot be reached" in done.stderr
        assert "Next: check DATABASE_URL" in done.stderr
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr + done.stdout


def test_a_project_without_videos_ends_with_one_sentence(site: Site, shapes_weights):
    site.configure(project="void", detect={"model": str(shapes_weights)})
    done = site.snakemake("-n")
    assert done.returncode == 1
    assert "project void has no videos yet. Next: add some with `dataminer populate" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_without_any_database_makes_none(site: Site, shapes_weights):
    site.configure(project="void", detect={"model": str(shapes_weights)})
    home = site.folder / ".dataminer" / "postgres"
    done = site.snakemake("-n", DATABASE_URL="", DATAMINER_PGDATA=str(home))
    assert done.returncode == 1
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.exists()


@pytest.mark.parametrize(("device", "gpus"), [("auto", 0), ("cuda", 1)])
def test_a_gpu_is_asked_for_where_the_settings_use_one(mined: Site, device, gpus):
    mined.configure(**{**mined.config(), "detect": {**mined.config()["detect"], "device": device}})
    wrapper = mined.folder / "wrapper.smk"
    asked = "workflow.get_rule('detect').resources['gpu'].value"
    wrapper.write_text(f'include: "{ROOT}/Snakefile"\nsys.exit(f"gpus: {{{asked}}}")\n')
    done = mined.run("snakemake", "--snakefile", str(wrapper), "-n")
    assert f"gpus: {gpus}" in done.stderr


@pytest.mark.parametrize("rule", ["download", "extract", "filter", "dedup", "detect"])
def test_a_job_on_a_node_plans_without_the_database(first_run, rule):
    """As Snakemake starts it there: each job reads the Snakefile again, 10,000 of them at once."""
    site, _ = first_run
    video = next(site.folder.glob("data/videos/cars-*")).name
    keys = {"filter": f"project=birds,video_id={video}", "dedup": "project=birds"}
    keys["detect"] = keys["dedup"]
    target = f"{rule}:{keys.get(rule, f'video_id={video}')}"
    unreachable = "postgresql://me:secret@127.0.0.1:1/mining"
    child = ("--mode", "remote", "--target-jobs", target, "--allowed-rules", rule, "--force")
    done = site.snakemake("-n", "-c1", "--nolock", *child, DATABASE_URL=unreachable)
    assert done.returncode == 0, done.stderr
    assert jobs(done) == {rule: 1}
