"""The device that a model runs on."""

from __future__ import annotations

from typing import Any

from dataminer.errors import ErrorClass, TransientError


def choose(name: str, part: int = 0, setting: str = "detect.device") -> Any:
    """Choose a device.

    Parameters
    ----------
    name : str
        A value of ``detect.device``.
    part : int
        The number of this job, of several: each takes the next of the visible GPUs.
    setting : str
        The setting of the name, for the error.

    Returns
    -------
    torch.device
        An available device.

    Raises
    ------
    TransientError
        This machine has no such device.
    """
    import torch

    gpus = torch.cuda.device_count()
    available = {"cpu": True, "cuda": gpus > 0, "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if name == "cuda" and gpus > 1:
        return torch.device("cuda", part % gpus)
    device = torch.device(name)
    if not available[device.type] or (device.index or 0) >= max(gpus, 1):
        raise TransientError(
            f"{setting} is {name}, and torch finds no such device here",
            ErrorClass.MISSING_TOOL,
            f"set {setting} to auto, or run on a machine that has one",
        )
    return device
