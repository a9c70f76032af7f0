"""One reading of the configuration: `snakemake --configfile` and `dataminer --config`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from dataminer.frames.table import read_table
from dataminer.store.layout import Store
from tests.support import videos
from tests.support.site import Site, jobs

SECRET = "s3cret"
CATS = """
project: cats
store: big
input: {files: [one.mp4]}
extract: {every_seconds: 0.2}
download: {proxy: "http://ann:s3cret@127.0.0.1:9"}
"""


@pytest.fixture
def cats(site: Site) -> Iterator[Site]:
    """A project of a file of its own, beside the default one, which names another."""
    site.configure(project="birds", input={"files": ["two.mp4"]}, dedup={"threshold": 0})
    (site.folder / "cats.yaml").write_text(CATS)
    for name in ("one", "two"):
        videos.make_video(site.folder / f"{name}.mp4", frames=25)
    done = site.dataminer_here("populate", "-c", "cats.yaml")
    assert "project cats: 1 video added" in done.stdout, done.stderr
    assert "`snakemake -n --configfile cats.yaml`" in done.stdout
    yield site


def frames(site: Site, store: str = "big") -> dict[str, int]:
    """Return how many frames were taken out of each video."""
    found = (site.folder / store / "frames").glob("*/*/frames.parquet")
    return {table.parts[-3][:3]: read_table(table, ["pts_time"]).num_rows for table in found}


def remembered(site: Site, project: str) -> list[str]:
    files: list[str]
    ((files,),) = site.rows(f"SELECT configfiles FROM projects WHERE name = '{project}'")
    return files


def output_of(site: Site, *arguments: str) -> str:
    done = site.snakemake(*arguments)
    return done.stdout + done.stderr


def test_who_names_the_project_need_not_name_its_files(cats: Site) -> None:
    only_dedup = ("--config", "project=cats", "--", "only_dedup")
    done = cats.snakemake("-c2", *only_dedup)
    assert done.returncode == 0, done.stderr
    assert "dataminer: reads cats.yaml, as in the last run of cats" in done.stderr
    assert SECRET not in done.stdout + done.stderr + json.dumps(cats.dump())
    assert not (cats.folder / "data").exists()
    dense = frames(cats)
    assert list(dense.values()) == [max(dense.values())] and dense["one"] > 2

    reported = cats.dataminer_here("sync", "-n")
    assert "nothing to repair" in reported.stdout, reported.stdout + reported.stderr
    done = cats.dataminer_here("export", "cats", "--frames-only", "-f", "csv", "--to", "out")
    assert done.returncode == 0, done.stderr
    assert cats.dataminer_here("report", "cats").returncode == 0
    page = Store(cats.folder / "big").report("cats") / "index.html"
    assert f"{dense['one']:,} extracted" in page.read_text()
    assert "other settings" not in cats.dataminer_here("status").stdout

    # what is gone stops a run, and nothing else
    (cats.folder / "cats.yaml").unlink()
    lost = cats.snakemake("-n", *only_dedup)
    assert lost.returncode != 0
    assert "last run with cats.yaml, which is gone" in lost.stderr
    assert cats.snakemake("--unlock", "--config", "project=cats").returncode == 0

    # files that are named count more, and a run with nothing else to do remembers them
    (cats.folder / "cats2.yaml").write_text(CATS.replace("0.2", "0.9"))
    (cats.folder / "dense.yaml").write_text("extract: {every_seconds: 0.2}")
    named = ("--configfile", "cats2.yaml", "dense.yaml", "--", "only_dedup")
    done = cats.snakemake("-c2", *named)
    assert done.returncode == 0, done.stderr
    assert jobs(done) == {"take_up": 1, "only_dedup": 1}
    assert "dataminer: reads" not in done.stderr
    assert remembered(cats, "cats") == ["cats2.yaml", "dense.yaml"]
    assert "take_up" not in output_of(cats, "-n", *named)

    # the last run decides, for jobs of another video too: they have processes of their own
    done = cats.dataminer_here("add-video", "two.mp4", "-p", "cats")
    assert "`snakemake -n --config project=cats`" in done.stdout
    again = cats.snakemake("-c2", *only_dedup)
    assert again.returncode == 0, again.stderr
    for file in ("cats2.yaml", "dense.yaml"):
        assert f"dataminer: reads {file}, as in the last run of cats" in again.stderr
    assert {key: n for key, n in jobs(again).items() if key in ("download", "extract")} == {
        "download": 1,
        "extract": 1,
    }
    assert frames(cats) == {"one": dense["one"], "two": dense["one"]}
    assert remembered(cats, "cats") == ["cats2.yaml", "dense.yaml"]


def test_a_plain_run_goes_on_with_the_files_of_the_last_one(cats: Site) -> None:
    (cats.folder / "rare.yaml").write_text("extract: {every_seconds: 0.5}")
    cats.populate()
    done = cats.snakemake("-c2", "--configfile", "rare.yaml", "--", "only_extract")
    assert done.returncode == 0, done.stderr
    assert frames(cats, "data") == {"two": 2}
    plain = output_of(cats, "-n", "only_extract")
    assert "reads rare.yaml, as in the last run of birds" in plain
    assert " due" not in plain
    only = output_of(cats, "-n", "--configfile", "config/config.yaml", "--", "only_extract")
    assert "extract: 1 due" in only
    assert "take_up" in only
    assert remembered(cats, "birds") == ["rare.yaml"], "a dry run is none"


def test_a_workflow_is_checked_without_a_database(site: Site) -> None:
    site.configure(project="birds")
    lint = site.snakemake("--lint", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert lint.returncode == 0, lint.stderr
