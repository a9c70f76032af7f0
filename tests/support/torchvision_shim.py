"""Let torchvision be imported beside a torch of another index, whose operators it then lacks.

Beside a CPU-only torch, torchvision from the package index cannot load its library, and its import
ends with "operator torchvision::nms does not exist". Where that is so, and only there, this gives
torch the operators that the import asks for, and the one that detectors call.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import Any

_kept: list[Any] = []  # a library's operators last as long as it does


def install() -> None:
    """Make ``import torchvision`` work; does nothing where it works by itself."""
    if find_spec("torchvision") is None or "torchvision" in sys.modules:
        return
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _kept.append(library)
    extension: Any = importlib.import_module("torchvision.extension")
    extension._has_ops = lambda: True


def _nms(boxes: Any, scores: Any, threshold: float) -> Any:
    """Keep the surest of boxes that overlap by more than the threshold."""
    import torch

    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    areas = sides.prod(1)
    left, kept = scores.argsort(descending=True, stable=True), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[left, :2])
        high = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        left = left[shared / (areas[best] + areas[left] - shared) <= threshold]
    return torch.stack(kept) if kept else left
