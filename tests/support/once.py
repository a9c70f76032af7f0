"""What the processes of one test run make once, whichever of them asks first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from dataminer.files.publishing import atomic_write


def once(note: Path, make: Callable[[], str]) -> str:
    """Return what `make` returned to the first process that asked; the others wait for it.

    Parameters
    ----------
    note : Path
        A file that keeps the result for as long as it may be used.
    make : callable
        Makes something, and returns in a few words where it is.
    """
    with FileLock(f"{note}.lock"):
        if not note.exists():
            text = make()
            with atomic_write(note) as partial:
                partial.write_text(text)
    return note.read_text()
