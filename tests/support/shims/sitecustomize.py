"""Lets torchvision be imported by the processes that tests start; see `torchvision_shim.py`.

Tests put this folder on PYTHONPATH. Python imports the module at its start; it does nothing until
somebody imports torchvision, and nothing then where torchvision finds its library.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_kept: list[Any] = []  # a library's operators last as long as it does


class _BeforeTorchvision:
    """Looks at the library once, when somebody imports it; finds nothing itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec("torchvision")
            if spec and spec.origin:
                _repair(Path(spec.origin).parent)


def _repair(folder: Path) -> None:
    import torch

    for library in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(library)
        except OSError:
            _declare(torch)


def _declare(torch: Any) -> None:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)


sys.meta_path.insert(0, _BeforeTorchvision())
