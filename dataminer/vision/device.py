"""The device that a model works on."""

from __future__ import annotations

from typing import Any

from dataminer.errors import ErrorClass, TransientError


def choose(wanted: str, part: int = 0, setting: str = "detect.device") -> Any:
    """Choose a device.

    Parameters
    ----------
    wanted : str
        As ``detect.device``.
    part : int
        Which of several jobs this is: of several GPUs that it may see, each job takes the next.
    setting : str
        The setting that says so, for the error.

    Returns
    -------
    torch.device
        One that is there.

    Raises
    ------
    TransientError
        There is none such on this machine.
    """
    import torch

    gpus = torch.cuda.device_count()
    there = {"cpu": True, "cuda": gpus > 0, "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if wanted == "cuda" and gpus > 1:
        return torch.device("cuda", part % gpus)
    device = torch.device(wanted)
    if not there[device.type] or (device.index or 0) >= max(gpus, 1):
        raise TransientError(
            f"{setting} is {wanted}, and torch finds no such device here",
            ErrorClass.MISSING_TOOL,
            f"set {setting} to auto, or run where there is one",
        )
    return device
