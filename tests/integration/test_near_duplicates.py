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
    columns = table_columns([measure(picture) for picture in made.pictures])
    near = np.zeros((len(made.pictures),) * 2, np.bool_)
    for name in hash_columns(settings):
        one, other, _ = pairs_within(columns[name], settings.threshold)
        near[one, other] = True
    assert int(made.unlike().sum()) > 200_000
    assert not (made.unlike() & near).any(), "unlike pictures would be merged: precision below 1"
    found = [bool(near[pair.one, pair.other]) for pair in made.pairs]
    assert len(found) > 300
    assert np.mean(found) >= 0.97
    alone = columns["phash"]
    bits = [int(np.bitwise_count(alone[pair.one] ^ alone[pair.other])) for pair in made.pairs]
    assert np.mean(np.array(bits) <= settings.threshold) < np.mean(found)  # why both decide
