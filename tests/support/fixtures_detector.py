"""The demo's tiny detector, as its scripts train it.

The weights lie beside this file under a name that says what trained them. When a script or a
library changes, they are trained again, into `.cache/`; commit the new ones in place of the old.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

from dataminer.files.hashing import fingerprint, sha256_file
from tests.support.paths import CACHE, ROOT

KEPT = Path(__file__).with_name("weights")
SCRIPTS = ("demo/detector.py", "demo/shapes.py")


@pytest.fixture(scope="session")
def shapes_weights() -> Path:
    """The path of weights that find discs, boxes and triangles at image_size 320."""
    if find_spec("ultralytics") is None:
        pytest.skip("no ultralytics")
    scripts = [sha256_file(ROOT / script) for script in SCRIPTS]
    name = f"shapes-{fingerprint(scripts, version('ultralytics'))}.pt"
    if (KEPT / name).is_file():
        return KEPT / name
    weights = CACHE / name
    CACHE.mkdir(exist_ok=True)
    with FileLock(weights.with_suffix(".lock")):  # the tests' processes train it once
        if not weights.is_file():
            from demo.detector import train

            train(weights)
    return weights
