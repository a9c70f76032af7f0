"""Detection: images per second of ours against ``model.predict`` on the same list, same batch size.

Ours is what rule detect does with frames: decode, predict, and write the boxes in shards. Theirs is
ultralytics' ``predict`` with a list of files, its results read and thrown away. Both load the model
each time, and take turns, on one thread of torch. The pictures are drawn once and linked under as
many names as are wanted. The model is the demo's (trained first, where it is not at hand).

Examples
--------
python benchmarks/detect.py
python benchmarks/detect.py --json --images 1000 --many 10000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from dataminer.config.models import DetectConfig
from dataminer.frames.boxes import Box
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.stages.detect import shards
from dataminer.vision.detectors import distinct
from dataminer.vision.weights import load_model, quiet_ultralytics

sys.path.insert(0, str(Path(__file__).parents[1]))  # the demo's pictures and its detector

from demo.detector import train
from demo.shapes import CLASSES, Shape, draw, photographs
from tests.support.frame_rows import frame_row

DRAWN = 64  # different pictures; the rest are the same under other names
WIDTH, HEIGHT = 640, 360
SETTINGS = DetectConfig(image_size=320, batch=16, device="cpu")


@dataclass(frozen=True)
class Timed:
    """Seconds on the clock, seconds of processor, and boxes found."""

    wall: float
    cpu: float
    boxes: int


def make_frames(folder: Path, count: int) -> Path:
    """Write a dedup folder with a number of frames."""
    folder.mkdir()
    rng, sources = np.random.default_rng(3), photographs()
    pictures = []
    for number in range(min(DRAWN, count)):
        source = sources[number % len(sources)]
        image = cv2.resize(source, (WIDTH, HEIGHT)).astype(np.uint8, copy=False)
        for lane, kind in enumerate(CLASSES):
            x, y = WIDTH * (lane + 0.5) / 3, rng.uniform(90, HEIGHT - 90)
            draw(image, Shape(kind, x, y, rng.uniform(50, 78), rng.uniform(-30, 30), number))
        pictures.append(cv2.imencode(".jpg", image)[1].tobytes())
    rows: list[dict[str, Any]] = []
    for number in range(count):
        row = frame_row(f"v{number // 100:05d}", number % 100, width=WIDTH, height=HEIGHT)
        row["file_name"] = f"{row['video_id']}_{row['frame_index']:06d}.jpg"
        path = folder / row["file_name"]
        if number < len(pictures):
            path.write_bytes(pictures[number])
        else:
            os.link(folder / rows[number % len(pictures)]["file_name"], path)
        rows.append(row)
    write_table(
        folder / FRAMES_FILE, pa.Table.from_pylist(rows, schema=FRAMES_SCHEMA), FRAMES_SCHEMA, {}
    )
    return folder


def timed(work: Callable[[], int]) -> Timed:
    """Run something that returns how many boxes it found."""
    wall, cpu = time.perf_counter(), time.process_time()
    boxes = work()
    return Timed(time.perf_counter() - wall, time.process_time() - cpu, boxes)


def ours(frames: Path, weights: Path, scratch: Path, threads: int) -> int:
    """Make the shards of all frames, from nothing."""
    shutil.rmtree(scratch, ignore_errors=True)
    plan = shards.divide_into_shards(frames, scratch, weights, SETTINGS)
    shards.make(plan, threads=threads)
    found = [shards.read_boxes(plan, shard) for shard in plan.shards]
    return sum(len(boxes) for each in found if each for boxes in each.boxes.values())


def theirs(frames: Path, weights: Path, scratch: Path) -> int:
    """Have ultralytics predict a list of the same files."""
    scratch.mkdir(exist_ok=True)
    listing = scratch / "list.txt"
    listing.write_text("".join(f"{path}\n" for path in sorted(frames.glob("*.jpg"))))
    found = 0
    with quiet_ultralytics():
        model = load_model(weights)
        import torch

        # which ultralytics would change
        threads = torch.get_num_threads()
        model.add_callback("on_predict_start", lambda _: torch.set_num_threads(threads))
        options: dict[str, Any] = {"conf": SETTINGS.confidence, "imgsz": SETTINGS.image_size}
        for result in model.predict(
            str(listing),
            batch=SETTINGS.batch,
            stream=True,
            nms=False,
            verbose=False,
            device="cpu",
            **options,
        ):
            rows = result.boxes.data.tolist()
            made = (Box.from_corners(r[:4], r[4], int(r[5]), (WIDTH, HEIGHT)) for r in rows)
            found += len(distinct(box for box in made if box))
    return found


def measure(options: argparse.Namespace, folder: Path, weights: Path) -> dict[str, Any]:
    """Take turns on the small list, then go through the long one."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    small = make_frames(folder / "small", options.images)
    many = make_frames(folder / "many", options.many)
    warm = make_frames(folder / "warm", 2 * SETTINGS.batch)
    ours(warm, weights, folder / "shards", options.threads)
    theirs(warm, weights, folder / "list")
    rounds = []
    for number in range(options.rounds):
        pair: dict[str, Timed] = {}
        for who in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
            pair[who] = timed(
                (lambda: ours(small, weights, folder / "shards", options.threads))
                if who == "ours"
                else (lambda: theirs(small, weights, folder / "list"))
            )
        rounds.append(pair)
    memory = _peak_mb()
    long = timed(lambda: ours(many, weights, folder / "shards", options.threads))
    again = timed(lambda: ours(small, weights, folder / "shards", options.threads))
    near = [rounds[-1]["ours"], again]  # just before and after the long one
    per_image = options.images / options.many
    return {
        "images_per_s_vs_predict": _median(r["theirs"].wall / r["ours"].wall for r in rounds),
        "cpu_vs_predict": _median(r["ours"].cpu / r["theirs"].cpu for r in rounds),
        "many_images_per_s_vs_few": statistics.mean(r.wall for r in near) / (long.wall * per_image),
        "many_cpu_per_image_vs_few": long.cpu * per_image / statistics.mean(r.cpu for r in near),
        "cpu_ms_per_image": 1000 * _median(r["ours"].cpu for r in rounds) / options.images,
        "peak_mb_few": memory,
        "peak_mb_many": _peak_mb(),
        "boxes": rounds[0]["ours"].boxes,
        "boxes_of_predict": rounds[0]["theirs"].boxes,
        "images_few": options.images,
        "images_many": options.many,
        "decode_threads": options.threads,
    }


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def arguments() -> argparse.Namespace:
    """Read the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--images", type=int, default=1000, help="of the list that both get")
    parser.add_argument("--many", type=int, default=10_000, help="of the long list, for ours")
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn")
    parser.add_argument("--threads", type=int, default=1, help="that decode, for ours")
    parser.add_argument("--weights", type=Path, help="the demo's detector; else it is trained")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the figures."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="dataminer-detect-") as name:
        folder = Path(name)
        weights = options.weights or train(folder / "shapes.pt")
        figures = measure(options, folder, weights)
    if options.json:
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in figures.items()}
        print(json.dumps(rounded, indent=2))
        return
    for key, value in figures.items():
        print(f"{key:28} {value:>12.4g}")


if __name__ == "__main__":
    main()
