"""The demo's tiny detector, trained once and kept under `.cache/` until its scripts change."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from dataminer.files import fingerprint, sha256_file
from tests.support.paths import CACHE, ROOT

SCRIPTS = ("demo/detector.py", "demo/shapes.py")


@pytest.fixture(scope="session")
def shapes_weights() -> Path:
    """The path of weights that find discs, boxes and triangles at image_size 320."""
    mark = fingerprint("shapes", [sha256_file(ROOT / script) for script in SCRIPTS])
    weights = CACHE / f"shapes-{mark}.pt"
    if not weights.is_file():
        if find_spec("ultralytics") is None:
            pytest.skip("no ultralytics")
        from demo.detector import train

        CACHE.mkdir(exist_ok=True)
        with FileLock(weights.with_suffix(".lock")):  # the tests' processes train it once
            if not weights.is_file():
                train(weights)
    return weights
