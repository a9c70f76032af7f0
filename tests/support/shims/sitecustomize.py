"""Lets torchvision be imported by the processes that tests start; see `torchvision_shim.py`.

Tests put this folder on PYTHONPATH. Python imports the module at its start; it does nothing until
somebody imports torchvision, and nothing then where torchvision finds its library.
"""

import importlib.util
import sys
from pathlib import Path


class _BeforeTorchvision:
    """Looks at the library once, when somebody imports it; finds nothing itself."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec("torchvision")
            if spec and spec.origin:
                _mend(Path(spec.origin).parent)


def _mend(folder: Path) -> None:
    import torch

    for library in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(library)
        except OSError:
            _declare(torch)


def _declare(torch) -> None:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declare.library = library  # its operators last as long as it does


sys.meta_path.insert(0, _BeforeTorchvision())
