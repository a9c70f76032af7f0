"""Weights files loaded as data: code in a pickle is refused, whatever the libraries allow.

ultralytics has restricted loading, and silently abandons it if torch or a setting do not support
it. So each condition is checked here, and torch itself is set to read data only.

Loaded modules are called later: a module calls its hooks, and attributes with the names of its
methods. So nothing can be called while a file is read, and only known code afterwards.
"""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from enum import Enum
from importlib.metadata import version
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from unittest import mock

from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.process import how_to_install

ENVIRONMENT = {
    # torch.load(weights_only=True), even if the caller disables it
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0",
}
HINT_OTHER_WEIGHTS = (
    "use the file that ultralytics publishes; or, if you trust this one, let a current ultralytics"
    " write it again: `YOLO(FILE).save(NEW)`"
)
_PARTS = ("SAFE_LOAD", "_SafeLoad", "torch_load")  # of ultralytics.nn.tasks
_ITS_OWN = ("ultralytics", "torch", "torchvision", "numpy")
_SAFE = {"builtins.getattr"} | {  # restricted by _Attribute
    f"{module}.{system}Path"
    for module in ("pathlib", "pathlib._local")
    for system in ("Posix", "Windows")
}
_CLIP = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"  # ViT-B-32.pt
_PLAIN = (str, bytes, int, float, complex, type(None), PurePath, Enum)
_OBJECTS = ("torch.nn.", "torchvision.transforms.", "ultralytics.")  # modules of their classes
_REBUILDS = "torch._tensor._rebuild_from_type_v2"  # calls any function that a file names


@contextmanager
def data_only(weights: Path) -> Iterator[None]:
    """Let ultralytics load one file, as data.

    Parameters
    ----------
    weights : Path
        A file in the format of ``torch.save``.

    Raises
    ------
    PermanentError
        MODEL: the file is a program, or a pickle of more than modules and tensors.
    TransientError
        MISSING_TOOL: the installed torch and ultralytics cannot load data only.
    """
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    _check_libraries(tasks)
    _check_file(weights)
    tasks.SAFE_LOAD = True  # permanently: a loaded model may build others later
    registry = {**tasks._SafeLoad._build(), "builtins.getattr": _Attribute}

    def load(_: Any, *, map_location: Any = None, **__: Any) -> Any:
        return _load(weights, map_location)  # ultralytics may choose another file for some names

    with (
        _no_globals_of_others(),
        mock.patch.object(tasks._SafeLoad, "_registry", registry),
        mock.patch.object(tasks, "torch_load", load),
    ):
        yield


@contextmanager
def trusted_programs_only(trusted: Collection[str]) -> Iterator[None]:
    """Let torch load TorchScript files, which run while they are loaded, only if they are trusted.

    Parameters
    ----------
    trusted : collection of str
        Their SHA-256; the published CLIP is always trusted.

    Raises
    ------
    PermanentError
        MODEL: raised within the block if another file is loaded.
    """
    import torch

    load = torch.jit.load

    def load_trusted(file: Any, *args: Any, **options: Any) -> Any:
        is_path = isinstance(file, str | PathLike)
        with open(file, "rb") if is_path else nullcontext(file) as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            if digest not in (*trusted, _CLIP):
                raise PermanentError(
                    f"{getattr(opened, 'name', 'it')} is a TorchScript file, which is a program",
                    ErrorClass.MODEL,
                    f"if you trust it, set `detect: {{trusted_programs: [{digest}]}}`; otherwise"
                    " use an owlv2 model, or weights saved after set_classes with exactly these"
                    " prompts",
                )
            opened.seek(0)
            return load(opened, *args, **options)

    with mock.patch.object(torch.jit, "load", load_trusted):
        yield


def _check_libraries(tasks: Any) -> None:
    parts = all(hasattr(tasks, name) for name in _PARTS)
    parts = parts and all(hasattr(tasks._SafeLoad, name) for name in ("_build", "_registry"))
    if parts and tasks._SafeLoad.SUPPORTED and _REBUILDS in _allowed():
        return
    found = " and ".join(f"{name} {version(name)}" for name in ("torch", "ultralytics"))
    raise TransientError(
        f"{found} cannot load weights without running code that they may carry",
        ErrorClass.MISSING_TOOL,
        how_to_install("detect"),
    )


def _check_file(weights: Path) -> None:
    """Refuse a file that torch would not read as data, with a clearer message than its own."""
    if not zipfile.is_zipfile(weights):
        reason = "is no archive of torch.save: it is damaged, or a bare pickle, which is code"
        raise _refused(weights, reason)
    with zipfile.ZipFile(weights) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in names:
        raise _refused(weights, "is a TorchScript archive, which is a program")
    import torch

    named = torch.serialization.get_unsafe_globals_in_checkpoint(weights)
    foreign = {name for name in named if name.partition(".")[0] not in _ITS_OWN} - _SAFE
    if foreign:
        raise _refused(weights, f"would run {min(foreign)[:80]!a}")


def _refused(weights: Path, reason: str) -> PermanentError:
    message = f"cannot load the weights {weights}: the file {reason}"
    return PermanentError(message, ErrorClass.MODEL, HINT_OTHER_WEIGHTS)


@contextmanager
def _no_globals_of_others() -> Iterator[None]:
    """Suspend the classes that this process lets torch load, and drop those of the file after."""
    from torch import serialization

    others = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(others)


def _load(weights: Path, map_location: Any) -> Any:
    """Read a checkpoint: modules get their state, and are neither constructed nor called.

    Constructors of ultralytics would read files and fetch links that a pickle can name.
    """
    import torch

    allowed = _allowed()
    with (
        mock.patch.object(torch.nn.Module, "__init__", _constructed),
        mock.patch.object(torch.nn.Module, "__call__", _called),
        mock.patch.dict(allowed),
    ):
        del allowed[_REBUILDS]
        checkpoint = torch.load(weights, map_location=map_location, weights_only=True)
    _check_content(weights, checkpoint)
    if isinstance(checkpoint, dict) and checkpoint.get("modelopt"):
        raise _refused(weights, "has ModelOpt rebuild the model")
    return checkpoint


def _allowed() -> dict[str, Any]:
    """Return the names that torch allows in files; its unpickler uses this very dictionary."""
    from torch import _weights_only_unpickler as unpickler

    found: dict[str, Any] = getattr(unpickler, "_get_allowed_globals", dict)()
    return found


def _constructed(module: Any, *_: Any, **__: Any) -> None:
    raise TypeError(f"the file would construct a {type(module).__name__}")


def _called(module: Any, *_: Any, **__: Any) -> None:
    raise TypeError(f"the file would call a {type(module).__name__}")


class _Attribute(NamedTuple):
    """The result of ``getattr`` in a file; it cannot be called while the file is read."""

    owner: Any
    name: Any

    def resolve(self, holder: Any, name: str) -> bool:
        """Give a fused module its own method back, or remove a function that is never called."""
        if name == "detect":  # of old models, whose code called it
            del holder.__dict__[name]
            return True
        own = self.owner is holder and self.name in ("forward", "forward_fuse")
        if name == "forward" and own:
            holder.__dict__[name] = getattr(type(holder), self.name).__get__(holder)
            return True
        return False


def _check_content(weights: Path, checkpoint: Any) -> None:
    """Refuse anything but data and modules, and modules that would call code not their own."""
    import numpy as np
    import torch

    plain = (*_PLAIN, np.generic, np.dtype, torch.device, torch.dtype)
    containers = (dict, OrderedDict, list, tuple, set, torch.Size)
    members = {"_modules": torch.nn.Module, "_parameters": torch.Tensor, "_buffers": torch.Tensor}
    checked, left = set(), [checkpoint]
    while left:
        value = left.pop()
        if id(value) in checked or isinstance(value, plain):
            continue
        checked.add(id(value))
        kind = type(value)
        is_object = kind.__module__.startswith(_OBJECTS)
        if not is_object and kind not in (*containers, torch.Tensor, torch.nn.Parameter):
            raise _refused(weights, f"holds more than data: {kind.__name__}")
        for name, field in list(getattr(value, "__dict__", {}).items()):
            if type(field) is _Attribute and field.resolve(value, name):
                continue
            member = members.get(name) if isinstance(value, torch.nn.Module) else None
            if (
                (callable(field) and hasattr(kind, name))
                or ("hooks" in name and field)
                or (member and not all(isinstance(_, member | None) for _ in dict.values(field)))
            ):
                reason = f"brings a {name[:80]!a} of its own for a {kind.__name__}"
                raise _refused(weights, reason)
            left.append(field)
        if isinstance(value, dict):
            left += [*dict.keys(value), *dict.values(value)]
        elif kind in containers:
            left += value
