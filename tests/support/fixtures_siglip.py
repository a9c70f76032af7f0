"""A tiny SigLIP that knows a few colours, trained once and kept under `.cache/`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from dataminer.files.hashing import fingerprint, sha256_file
from dataminer.files.publishing import publish_dir, staging_dir
from tests.support import siglip_model
from tests.support.paths import CACHE
from tests.support.torchvision_shim import install

SHIMS = Path(__file__).parent / "shims"


@pytest.fixture(scope="session")
def shims() -> str:
    """A folder for PYTHONPATH with which torchvision can be imported, as here from now on."""
    if find_spec("transformers") is None:
        pytest.skip("no transformers")
    install()
    return str(SHIMS)


@pytest.fixture(scope="session")
def tiny_siglip(shims: str) -> Path:
    """The folder of the checkpoint: 32 pixels, 32 dimensions, words for three colours."""
    import transformers

    digest = fingerprint(
        "siglip", sha256_file(Path(siglip_model.__file__)), transformers.__version__
    )
    folder = CACHE / f"siglip-{digest}"
    if not folder.is_dir():
        with staging_dir(folder) as staging:
            siglip_model.train(staging)
            publish_dir(staging, folder)
    return folder
