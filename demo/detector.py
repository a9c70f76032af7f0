"""A tiny detector for the demo's shapes, trained from scratch in well under a minute."""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from dataminer.files.publishing import atomic_write
from dataminer.vision.weights import quiet_ultralytics
from demo.shapes import CLASSES, COLOURS, BBox, Image, Shape, draw, photographs

if TYPE_CHECKING:
    import torch

STEPS = 700
BATCH = 16
SIDE = 128  # pixels of a training picture; detection runs at 320, where shapes have the same size
_RATE = 0.005
_UPDATES = 20  # how often the loss shifts weight from the one-to-many to the one-to-one head

# the yolo26 family at its smallest: an end-to-end head, one scale, and a first layer that takes
# 4x4 pixels at once, which halves the time
MODEL: dict[str, Any] = {
    "nc": len(CLASSES),
    "end2end": True,
    "reg_max": 1,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "backbone": [
        [-1, 1, "Conv", [32, 4, 4, 0]],  # 0: 1/4
        [-1, 1, "Conv", [32, 3, 1]],
        [-1, 1, "Conv", [48, 3, 2]],  # 2: 1/8
        [-1, 1, "C3k2", [48, False, 0.5]],
        [-1, 1, "Conv", [64, 3, 2]],  # 4: 1/16
        [-1, 1, "C3k2", [64, False, 0.5]],
        [-1, 1, "SPPF", [64, 5, 3, True]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 1, "C3k2", [48, False, 0.5]],
        [[9], 1, "Detect", ["nc"]],
    ],
}


def train(
    out: Path, seed: int = 0, *, steps: int = STEPS, progress: Callable[[str], None] | None = None
) -> Path:
    """Train the detector on shapes drawn over photographs and save it as ultralytics would.

    Parameters
    ----------
    out : Path
        The weights file to make, ``*.pt``; it is written atomically.
    seed : int
        The seed of the initial weights and of every drawn picture.
    steps : int
        How many batches to train on.
    progress : callable, optional
        Called with a line of text from time to time.

    Returns
    -------
    Path
        ``out``.
    """
    with quiet_ultralytics():
        import torch

        torch.manual_seed(seed)
        threads = torch.get_num_threads()
        # tensors this small gain nothing from a second thread, which costs much on shared cores
        torch.set_num_threads(1)
        try:
            model = _new_model()
            _fit(model, np.random.default_rng(seed), steps, progress or (lambda _: None))
            _save(model, out)
        finally:
            torch.set_num_threads(threads)
    return out


def _new_model() -> Any:
    import torch
    from ultralytics.cfg import get_cfg

    tasks: Any = importlib.import_module("ultralytics.nn.tasks")  # it has no types
    model = tasks.DetectionModel(
        {**MODEL, "yaml_file": "shapes.yaml"}, nc=len(CLASSES), verbose=False
    )
    model.names = dict(enumerate(CLASSES))
    model.args = get_cfg(overrides={"epochs": _UPDATES, "model": "shapes.yaml", "imgsz": 320})
    model.criterion = model.init_criterion()
    # the memory layout in which convolutions on a CPU are fastest
    return model.train().to(memory_format=torch.channels_last)


def _fit(model: Any, rng: np.random.Generator, steps: int, progress: Callable[[str], None]) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.0005)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=_RATE, total_steps=steps, pct_start=0.1
    )
    started = time.monotonic()
    for step, drawn in enumerate(_batches(rng, steps), start=1):
        loss, _ = model.loss(drawn)
        optimizer.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // _UPDATES) == 0:
            model.criterion.update()
        if step % 100 == 0 or step == steps:
            spent = time.monotonic() - started
            progress(f"training the demo's detector: step {step} of {steps}, {spent:.0f} s")


def _batches(rng: np.random.Generator, count: int) -> Iterator[dict[str, torch.Tensor]]:
    """Draw batches, each during training on the previous one."""
    pictures = photographs()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(batch, rng, pictures)
        for _ in range(count):
            drawn, coming = coming.result(), pool.submit(batch, rng, pictures)
            yield drawn


def batch(rng: np.random.Generator, pictures: list[Image]) -> dict[str, torch.Tensor]:
    """Draw one batch in the format of ultralytics' losses.

    Returns
    -------
    dict
        ``img`` (BATCH, 3, SIDE, SIDE) RGB in 0..1, and for the N shapes on them ``batch_idx`` (N,),
        ``cls`` (N, 1) and ``bboxes`` (N, 4): centre, width and height over SIDE.
    """
    import torch

    images, owners, classes, boxes = [], [], [], []
    for index in range(BATCH):
        image, objects = picture(rng, pictures)
        images.append(image)
        for kind, (x1, y1, x2, y2) in objects:
            owners.append(index)
            classes.append([CLASSES.index(kind)])
            boxes.append([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    pixels = np.stack(images)[..., ::-1].astype(np.float32) / 255
    return {
        "img": torch.from_numpy(pixels).permute(0, 3, 1, 2),
        "batch_idx": torch.tensor(owners, dtype=torch.float32),
        "cls": torch.tensor(classes, dtype=torch.float32).view(-1, 1),
        "bboxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4) / SIDE,
    }


def picture(
    rng: np.random.Generator, pictures: list[Image]
) -> tuple[Image, list[tuple[str, BBox]]]:
    """Draw one training picture (SIDE, SIDE, 3) with some shapes, and their boxes."""
    image = _background(rng, pictures)
    objects: list[tuple[str, BBox]] = []
    for _ in range(int(rng.integers(0, 7))):
        size = float(rng.uniform(42, 115))
        x, y = rng.uniform(size * 0.55, 2 * SIDE - size * 0.55, 2)
        shape = Shape(
            kind=CLASSES[rng.integers(len(CLASSES))],
            x=float(x),
            y=float(y),
            size=size,
            angle=float(rng.uniform(-35, 35)),
            colour=int(rng.integers(len(COLOURS))),
        )
        if all(_apart(shape, box) for _, box in objects):
            objects.append((shape.kind, draw(image, shape)))
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return _disturb(rng, small), [(kind, _halve(box)) for kind, box in objects]  # type: ignore[arg-type]


def _background(rng: np.random.Generator, pictures: list[Image]) -> Image:
    """Cut a square of twice the training size out of a photograph, at a random zoom."""
    source = pictures[rng.integers(len(pictures))]
    side = int(rng.integers(SIDE, min(source.shape[:2])))
    y, x = (int(rng.integers(0, extent - side + 1)) for extent in source.shape[:2])
    cut = source[y : y + side, x : x + side]
    cut = cv2.resize(cut, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return np.ascontiguousarray(cut[:, ::-1] if rng.random() < 0.5 else cut)


def _apart(shape: Shape, box: BBox) -> bool:
    extent = shape.size * 0.6
    x1, y1, x2, y2 = box
    return (
        shape.x + extent < x1
        or shape.x - extent > x2
        or shape.y + extent < y1
        or shape.y - extent > y2
    )


def _disturb(rng: np.random.Generator, image: Image) -> Image:
    """Change light and sharpness a little, and compress, as a video would."""
    image = cv2.convertScaleAbs(image, alpha=rng.uniform(0.8, 1.15), beta=rng.uniform(-12, 12))  # type: ignore[assignment]
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))  # type: ignore[assignment]
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])
    return cv2.imdecode(packed, cv2.IMREAD_COLOR)  # type: ignore[return-value]


def _halve(box: BBox) -> BBox:
    x1, y1, x2, y2 = (min(max(value / 2, 0.0), float(SIDE)) for value in box)
    return x1, y1, x2, y2


def _save(model: Any, out: Path) -> None:
    """Write a checkpoint with the keys of ultralytics' own, in half precision."""
    import torch
    import ultralytics

    train_args = {**vars(model.args), "model": "shapes.yaml"}
    del model.criterion
    model.args = train_args
    checkpoint = {
        "epoch": -1,
        "model": model.eval().half(),
        "ema": None,
        "optimizer": None,
        "train_args": train_args,
        "version": ultralytics.__version__,
    }
    # to memory first, because torch writes a file's name into the file
    packed = io.BytesIO()
    torch.save(checkpoint, packed)
    with atomic_write(out) as partial:
        partial.write_bytes(packed.getvalue())
