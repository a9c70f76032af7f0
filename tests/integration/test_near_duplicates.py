"""The default of dedup tells copies of photographs from other photographs."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

from dataminer.config.models import DedupConfig
from dataminer.stages.dedup.stage import hash_columns
from dataminer.stages.extract.quality.metrics import measure, table_columns
from tests.support.hash_pairs import pairs_within
from tests.support.paths import ROOT

pytest.importorskip("skimage")
pytest.importorskip("ultralytics")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """Load the benchmark that makes the labelled set and the table in docs/dedup.md."""
    path = ROOT / "benchmarks" / "near_duplicates.py"
    spec = importlib.util.spec_from_file_location("near_duplicates", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_default_merges_nothing_unlike_and_finds_nearly_all_copies(
    benchmark: ModuleType,
) -> None:
    made = benchmark.labelled(benchmark.LIKE)
    settings = DedupConfig()
    measured = [measure(picture) for picture in made.pictures]
    columns = table_columns(measured)
    near = np.zeros((len(made.pictures),) * 2, np.bool_)
    for name in hash_columns(settings):
        one, other, _ = pairs_within(columns[name], settings.threshold)
        near[one, other] = True
    assert int(made.unlike().sum()) > 200_000
    assert not (made.unlike() & near).any(), "unlike pictures would be merged: precision below 1"
    merged = benchmark.confirmed(made, near, measured)
    found = [bool(merged[pair.one, pair.other]) for pair in made.pairs]
    assert len(found) > 300
    assert np.mean(found) >= 0.97
    alone = columns["phash"]
    bits = [int(np.bitwise_count(alone[pair.one] ^ alone[pair.other])) for pair in made.pairs]
    assert np.mean(np.array(bits) <= settings.threshold) < np.mean(found)  # why both decide
    size = [len(each.thumbnail.jpeg) + each.thumbnail.means.size for each in measured]
    assert np.mean(size) < 2500  # 600 bytes are the same in each JPEG, and compressed away


def test_what_changed_before_a_still_camera_is_kept_apart(benchmark: ModuleType) -> None:
    changed = benchmark.changed_pictures
    photographs = [benchmark.load(*each) for each in benchmark.PHOTOGRAPHS[::4]]
    for share, least in ((0.03, 0.9), (0.05, 0.95)):
        near, merged = benchmark.are_merged([*changed.object_changes(photographs, [share])])
        assert len(near) == 90
        assert near.mean() > 0.6  # hashes alone would merge these
        assert 1 - merged.mean() >= least


def test_other_pages_slides_and_screens_are_kept_apart(benchmark: ModuleType) -> None:
    near, merged = benchmark.are_merged([*benchmark.changed_pictures.text_changes(20)])
    assert len(near) == 60
    assert near.any()
    assert 1 - merged.mean() >= 0.95
