"""Snakemake's own tools work as their users expect, and looking changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dataminer.sync.batches.batch_list import BatchList
from dataminer.workflow.run import RUNS
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


def test_looking_leaves_database_and_store_unchanged(mined: Site) -> None:
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


def test_a_plan_for_slurm_leaves_database_and_store_unchanged(mined: Site) -> None:
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
    assert jobs(done) == {**EVERYTHING, "download": 1, "extract": 1, "filter": 1}
    assert (mined.dump(), mined.listing()) == before


def test_the_report_writes_its_page(mined: Site) -> None:
    done = mined.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stderr
    page = (mined.folder / "report.html").read_text()
    assert "contact sheet" in page
    assert "index.html" in page
    assert "What was mined for project birds" in page
    assert "de-duplicated" in page


def test_the_second_run_has_nothing_to_do(mined: Site) -> None:
    before = mined.dump(), mined.listing()
    done = mined.mine()
    assert jobs(done) == {}
    assert "Nothing to be done" in done.stderr
    assert (mined.dump(), mined.listing()) == before


def test_a_bad_config_ends_with_one_sentence(site: Site) -> None:
    site.configure(project="birds", fliter={})
    for done in (site.snakemake("-n"), site.dataminer("populate")):
        assert_one_sentence(done, "fliter: unknown key; did you mean `filter`?")


def test_an_error_of_the_plan_ends_with_one_sentence(mined: Site) -> None:
    mined.configure(**{**mined.config(), "detect": {"model": "no/such/file.pt"}})
    assert_one_sentence(mined.snakemake("-n"), "there is no file no/such/file.pt")


def test_a_projects_name_is_taken_as_it_is_typed(mined: Site) -> None:
    mined.rows("UPDATE projects SET name = '2024_05' WHERE name = 'birds'")
    done = mined.snakemake("-n", "--config", "project=2024_05")
    assert done.returncode == 0, done.stderr
    assert "project=2024_05" in done.stdout


def test_a_checkout_whose_path_has_a_brace_is_refused_in_one_sentence(site: Site) -> None:
    site.configure(project="birds")
    (site.folder / "a{b}").symlink_to(ROOT)
    done = site.run("snakemake", "--snakefile", "a{b}/Snakefile", "-n")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("dataminer: the path ")
    assert "Traceback" not in done.stderr


def test_an_unreachable_database_ends_with_one_sentence(mined: Site) -> None:
    url = "postgresql://me:secret@127.0.0.1:1/mining"
    for done in (
        mined.snakemake("-c2", DATABASE_URL=url),
        mined.dataminer("status", DATABASE_URL=url),
    ):
        assert_one_sentence(done, "cannot be reached")
        assert "Next: check DATABASE_URL" in done.stderr
        assert "secret" not in done.stderr + done.stdout


def test_a_dry_run_without_any_database_makes_none(site: Site, shapes_weights: Path) -> None:
    site.configure(project="void", detect={"model": str(shapes_weights)})
    home = site.folder / ".dataminer" / "postgres"
    done = site.snakemake("-n", DATABASE_URL="", DATAMINER_PGDATA=str(home))
    assert done.returncode == 1
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.exists()


# every rule as Snakemake reads it: whether a GPU is asked for
TELL = """
include: "{root}/Snakefile"
import json
gpu = {{r.name: r.resources["gpu"].value for r in workflow.rules if "gpu" in r.resources}}
print("told:", json.dumps(gpu), file=sys.stderr)
sys.exit()
"""


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_rule_asks_for_a_gpu_where_the_settings_name_one(tmp_path: Path, device: str) -> None:
    site = Site(tmp_path, "postgresql://nobody@127.0.0.1:1/none")  # planning alone asks it
    site.configure(
        filter={"content": {"exclude": ["car"], "device": device}},
        detect={"prompts": ["a disc"], "device": device},
    )
    (tmp_path / "tell.smk").write_text(TELL.format(root=ROOT))
    done = site.run("snakemake", "--snakefile", "tell.smk", "-n")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("told: ")]
    expected = dict.fromkeys(("embed", "detect", "detect_shards"), int(device == "cuda"))
    assert json.loads(line.removeprefix("told: ")) == expected


def test_jobs_on_a_node_plan_without_the_database(mined: Site) -> None:
    """As Snakemake starts them there: each reads the Snakefile again, 10,000 of them at once."""
    video = next(mined.folder.glob("data/videos/cars-*")).name
    name = "20261129-120000-0123ab"
    members = {rule: {video: [video]} for rule in ("download", "extract", "filter/birds")}
    BatchList(mined.folder / RUNS / name, members, owner="me", slots=2).write()
    keys = {
        "download": f"run={name},batch={video}",
        "extract": f"run={name},batch={video}",
        "filter": f"project=birds,run={name},batch={video}",
        "download_video": f"video_id={video}",
        "filter_video": f"project=birds,video_id={video}",
        "dedup": "project=birds",
        "detect": "project=birds",
    }
    targets = [f"{rule}:{key}" for rule, key in keys.items()]
    unreachable = "postgresql://me:secret@127.0.0.1:1/mining"
    child = ("--mode", "remote", "--target-jobs", *targets, "--allowed-rules", *keys, "--force")
    done = mined.snakemake("-n", "-c1", "--nolock", *child, DATABASE_URL=unreachable)
    assert done.returncode == 0, done.stderr
    assert jobs(done) == dict.fromkeys(keys, 1)
