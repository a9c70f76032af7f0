"""Errors about files of a result that are missing or damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dataminer.errors import DamagedFile, ErrorClass, PermanentError
from dataminer.files.links import StrPath
from dataminer.files.reading import path_in


@contextlib.contextmanager
def result_file(folder: Path, name: str, result: Path | None = None) -> Iterator[Path]:
    """Yield the path of a file of a result; errors of opening it in the body are explained.

    Parameters
    ----------
    folder : Path
        Where the file is.
    name : str
        Its name.
    result : Path, optional
        The folder to remove so that the file is made again; by default ``folder``.

    Raises
    ------
    PermanentError
        ``MISSING_SOURCE``: it is not there. ``CORRUPT``: it is a link, or the name leads out of
        the folder.
    """
    try:
        yield path_in(folder, name)
    except FileNotFoundError as error:
        raise missing_error(folder / name, result or folder) from error
    except DamagedFile as error:
        raise damaged_error(error.path, error.reason, result or folder) from None


def missing_error(path: Path, folder: Path) -> PermanentError:
    """Return the error about a file of a result that is not there."""
    return PermanentError(f"{path} is missing", ErrorClass.MISSING_SOURCE, _remake_hint(folder))


def damaged_error(path: StrPath, reason: str, folder: Path) -> DamagedFile:
    """Return the error about a file of a result that is not as it was written."""
    return DamagedFile(path, reason, _remake_hint(folder))


def _remake_hint(folder: Path) -> str:
    return f"remove {folder}, then run snakemake again, which makes it again"
