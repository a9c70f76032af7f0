"""What job processes inherit from a run, and how optional libraries are installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONNECT_ONLY = "DATAMINER_CONNECT_ONLY"


def let_jobs_import(folder: Path | str) -> None:
    """Make the package in ``folder`` importable for scripts in the environment of a rule.

    Parameters
    ----------
    folder : Path or str
        The workflow's folder, which contains the package; it becomes the first in ``PYTHONPATH``.
    """
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = [path for path in paths if path and path != str(folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *rest])


def connect_only() -> None:
    """Let this process and its children connect to the embedded database, but never start it.

    A job on a compute node would start a second server on the same data, or one that ends with the
    job. Only commands and the main process of a run start it.
    """
    os.environ[_CONNECT_ONLY] = "1"


@contextmanager
def connecting_only() -> Iterator[None]:
    """Apply :func:`connect_only` for the block."""
    before = os.environ.get(_CONNECT_ONLY)
    connect_only()
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CONNECT_ONLY]


def may_start_database() -> bool:
    """Whether this process may start the embedded database."""
    return not os.environ.get(_CONNECT_ONLY)


def how_to_install(extra: str) -> str:
    """Return how to install an optional part of this checkout.

    The dataminer on the package index is another program.

    Parameters
    ----------
    extra : str
        ``detect``, ``semantic`` or ``text``.
    """
    folder = Path(__file__).resolve().parents[1]
    own = f"pip install --constraint constraints.txt --editable '.[{extra}]'"
    return f"run `make {extra}` in {folder}, or `{own}` there in your own environment"
