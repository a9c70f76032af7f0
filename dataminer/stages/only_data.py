"""Weights files read as data: what a pickle would run is refused, whatever the libraries allow.

ultralytics has a restricted way to load, and leaves it without a word where torch or a setting do
not go with it. So each condition is looked at here, and torch itself is told to read data only.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from dataminer.environment import how_to_install
from dataminer.errors import ErrorClass, PermanentError, TransientError

ENVIRONMENT = {
    # torch.load(weights_only=True), even where the caller says otherwise
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0",
}
WAYS_OUT = (
    "take the file that ultralytics publishes; or, where you trust this one, have a current"
    " ultralytics write it again: `YOLO(FILE).save(NEW)`"
)
_PARTS = ("SAFE_LOAD", "_SafeLoad", "torch_load")  # of ultralytics.nn.tasks
_ITS_OWN = ("ultralytics", "torch", "torchvision", "numpy")
_SAFE = {"builtins.getattr"} | {  # of which ultralytics lets no more pass than it needs
    f"{module}.{system}Path"
    for module in ("pathlib", "pathlib._local")
    for system in ("Posix", "Windows")
}


@contextmanager
def loading(weights: Path) -> Iterator[None]:
    """Let ultralytics load one file, as data.

    Parameters
    ----------
    weights : Path
        As ``torch.save`` writes it.

    Raises
    ------
    PermanentError
        MODEL: it is a program, or a pickle that names more than modules and tensors.
    TransientError
        MISSING_TOOL: the installed torch and ultralytics cannot do it.
    """
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    _check_libraries(tasks)
    _check_file(weights)
    with mock.patch.multiple(tasks, SAFE_LOAD=True, torch_load=_load):
        yield


def _check_libraries(tasks: Any) -> None:
    if all(hasattr(tasks, name) for name in _PARTS) and tasks._SafeLoad.SUPPORTED:
        return
    found = " and ".join(f"{name} {version(name)}" for name in ("torch", "ultralytics"))
    raise TransientError(
        f"{found} cannot load weights without running code that they may carry",
        ErrorClass.MISSING_TOOL,
        how_to_install("detect"),
    )


def _check_file(weights: Path) -> None:
    """Refuse what torch would not read as data, with better words than its own."""
    if not zipfile.is_zipfile(weights):
        what = "is no archive as torch.save writes it, but damaged, or a bare pickle, which is code"
        raise _refused(weights, what)
    with zipfile.ZipFile(weights) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:
        raise _refused(weights, "is a TorchScript archive, which is a program")
    import torch

    named = torch.serialization.get_unsafe_globals_in_checkpoint(weights)
    foreign = {name for name in named if name.partition(".")[0] not in _ITS_OWN} - _SAFE
    if foreign:
        raise _refused(weights, f"would run {min(foreign)[:80]!a}")


def _refused(weights: Path, what: str) -> PermanentError:
    message = f"cannot load the weights {weights}: the file {what}"
    return PermanentError(message, ErrorClass.MODEL, WAYS_OUT)


def _load(file: Any, *, map_location: Any = None, **_: Any) -> Any:
    """Read a checkpoint: modules come with their state, and are never constructed.

    Constructors of ultralytics read files and fetch links that a pickle can name.
    """
    import torch

    with mock.patch.object(torch.nn.Module, "__init__", _constructed):
        return torch.load(file, map_location=map_location, weights_only=True)


def _constructed(module: Any, *_: Any, **__: Any) -> None:
    raise TypeError(f"the file would construct a {type(module).__name__}")
