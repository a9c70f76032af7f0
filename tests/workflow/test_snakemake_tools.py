"""Snakemake's own tools work as their users expect, and looking changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tests.support.paths import BIN, ROOT
from tests.support.site import Site, jobs

EVERYTHING = {
    **dict.fromkeys(("download", "extract", "filter"), 4),
    **dict.fromkeys(("dedup", "detect", "report", "all"), 1),
}


def assert_one_sentence(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "dataminer: " in line]
    assert sentence in line
    assert "Next: " in line
    assert "Traceback" not in done.stderr


def test_looking_leaves_database_and_store_unchanged(mined: Site):
    before = mined.dump(), mined.listing()
    graphs = [mined.snakemake("--dag"), mined.snakemake("--rulegraph")]
    for done in (*graphs, mined.snakemake("--summary")):
        assert done.returncode == 0, done.stderr
    assert (mined.dump(), mined.listing()) == before
    for graph in graphs:
        assert graph.stdout.startswith("digraph")
        if shutil.which("dot"):
            drawn = subprocess.run(
                ["dot", "-Tsvg"], input=graph.stdout, capture_output=True, text=True, check=True
            )
            assert "</svg>" in drawn.stdout
            assert "detect" in drawn.stdout


def test_a_plan_for_slurm_leaves_database_and_store_unchanged(mined: Site):
    """The profile is found by its name at the root."""
    before = mined.dump(), mined.listing()
    options = ("--profile", "slurm", "--directory", str(mined.folder), "-n", "--forceall")
    done = subprocess.run(
        [str(BIN / "snakemake"), *options],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": mined.database},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"Using profiles? slurm", done.stderr), done.stderr
    assert jobs(done) == EVERYTHING
    assert (mined.dump(), mined.listing()) == before


def test_the_report_writes_its_page(mined: Site):
    done = mined.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stderr
    page = (mined.folder / "report.html").read_text()
    assert "contact sheet" in page
    assert "index.html" in page
    assert "What was mined for project birds" in page
    assert "de-duplicated" in page


def test_the_second_run_has_nothing_to_do(mined: Site):
    before = mined.dump(), mined.listing()
    done = mined.mine()
    assert jobs(done) == {}
    assert "Nothing to be done" in done.stderr
    assert (mined.dump(), mined.listing()) == before


def test_a_bad_config_ends_with_one_sentence(site: Site):
    site.configure(project="birds", fliter={})
    for done in (site.snakemake("-n"), site.dataminer("populate")):
        assert_one_sentence(done, "fliter: unknown key; did you mean `filter`?")


def test_an_error_of_the_plan_ends_with_one_sentence(mined: Site):
    mined.configure(**{**mined.config(), "detect": {"model": "no/such/file.pt"}})
    assert_one_sentence(mined.snakemake("-n"), "there is no file no/such/file.pt")


def test_an_unreachable_database_ends_with_one_sentence(mined: Site):
    url = "postgresql://me:secret@127.0.0.1:1/mining"
    for done in (
        mined.snakemake("-c2", DATABASE_URL=url),
        mined.dataminer("status", DATABASE_URL=url),
    ):
        assert_one_sentence(done, "cannot be reached")
        assert "Next: check DATABASE_URL" in done.stderr
        assert "secret" not in done.stderr + done.stdout


def test_a_dry_run_without_any_database_makes_none(site: Site, shapes_weights):
    site.configure(project="void", detect={"model": str(shapes_weights)})
    home = site.folder / ".dataminer" / "postgres"
    done = site.snakemake("-n", DATABASE_URL="", DATAMINER_PGDATA=str(home))
    assert done.returncode == 1
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.exists()


@pytest.mark.parametrize(("device", "gpus"), [("auto", 0), ("cuda", 1)])
def test_a_gpu_is_asked_for_where_the_settings_use_one(site: Site, device, gpus):
    site.configure(project="birds", detect={"device": device})
    wrapper = site.folder / "wrapper.smk"
    asked = "workflow.get_rule('detect').resources['gpu'].value"
    wrapper.write_text(f'include: "{ROOT}/Snakefile"\nsys.exit(f"gpus: {{{asked}}}")\n')
    done = site.run("snakemake", "--snakefile", str(wrapper), "-n")
    assert f"gpus: {gpus}" in done.stderr


def test_jobs_on_a_node_plan_without_the_database(mined: Site):
    """As Snakemake starts them there: each reads the Snakefile again, 10,000 of them at once."""
    video = next(mined.folder.glob("data/videos/cars-*")).name
    keys = {
        "download": f"video_id={video}",
        "extract": f"video_id={video}",
        "filter": f"project=birds,video_id={video}",
        "dedup": "project=birds",
        "detect": "project=birds",
    }
    targets = [f"{rule}:{key}" for rule, key in keys.items()]
    unreachable = "postgresql://me:secret@127.0.0.1:1/mining"
    child = ("--mode", "remote", "--target-jobs", *targets, "--allowed-rules", *keys, "--force")
    done = mined.snakemake("-n", "-c1", "--nolock", *child, DATABASE_URL=unreachable)
    assert done.returncode == 0, done.stderr
    assert jobs(done) == dict.fromkeys(keys, 1)
