"""A run works with the store that is its database's, and says why it does not with another."""

from __future__ import annotations

from pathlib import Path

from dataminer.store.layout import Store
from dataminer.sync.pairing.check import PairingStep, require_pair
from tests.support.site import Site, jobs


def test_a_run_refuses_another_store_and_follows_its_own(mined: Site) -> None:
    config = mined.config()
    mined.configure(**{**config, "store": "other"})
    before, files = mined.dump(), mined.listing()
    # by its plan, and if a file is asked for by name
    for options in (["-n"], ["-c1", "other/videos/x/info.json"]):
        done = mined.snakemake(*options)
        assert done.returncode == 1
        assert f"belongs to the store {mined.folder / 'data'}, not to" in done.stderr
        assert "`dataminer adopt -n other`" in done.stderr
    assert mined.dump() == before
    assert not (mined.folder / "other").exists()
    assert mined.listing() == files

    (mined.folder / "data").rename(mined.folder / "other")
    planned = mined.snakemake("-n")
    assert jobs(planned) == {"take_up": 1, "all": 1}
    assert "the store has moved: the paths in the database will be updated" in planned.stdout
    assert mined.dump() == before
    done = mined.mine()
    moved = f"the store has moved from {mined.folder / 'data'} to {mined.folder / 'other'}"
    assert done.stderr.count(moved) == 1
    assert jobs(done) == {"take_up": 1, "all": 1}
    paths = mined.rows("SELECT dedup_dir FROM projects")
    assert paths == [("other/projects/birds/dedup",)]
    with mined.inside():
        assert require_pair(Store(Path("other"))) is PairingStep.NOTHING
