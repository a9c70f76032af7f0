"""Near-duplicate search: CPU time against exact searches of others, and whether it is exact.

All find all pairs of hashes within a Hamming distance, on one thread, in the same run. faiss
(``IndexBinaryFlat.range_search``) finds each pair from both ends, as it always does. From 1,000,000
on it answers a sample of the queries, and its time is scaled up; so is that of the loop over
imagehash, which is measured, like imagededup, at the smallest size. What is not installed is left
out.

Examples
--------
python benchmarks/dedup.py
python benchmarks/dedup.py --json
python benchmarks/dedup.py --sizes 10000,50000 --threshold 10
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataminer.config.models import DedupConfig
from dataminer.frames.thumbnails import (
    HEIGHT,
    THUMBNAILS_FILE,
    WIDTH,
    VideoThumbnails,
    write_thumbnails,
)
from dataminer.stages.dedup.change_detection import ChangeDetector
from dataminer.stages.dedup.hamming import Pairs
from dataminer.stages.dedup.representatives import Representatives, representatives_of_hashes
from dataminer.stages.dedup.thumbnails import FrameRows, ThumbnailSource, stored_pictures
from dataminer.stages.extract.quality.thumbnails import make_thumbnail
from tests.support.hash_pairs import pairs_within

Hashes = NDArray[np.uint64]
Result = TypeVar("Result")

DEFAULT_SIZES = (10_000, 100_000, 1_000_000)
# Beyond this many, comparing all with all takes minutes: a sample of queries is compared.
ALL_QUERIES_UP_TO = 200_000
SAMPLE = 10_000
SLOW_SAMPLE = 100  # queries that those answer who take milliseconds for each
WIDE_UP_TO = 100_000
VIDEO_FRAMES = 1000  # of each file of thumbnails
WIDE_THRESHOLD = 32  # of 256 bits
MISSING = {
    "faiss_cpu_seconds": "faiss-cpu",
    "imagehash_loop_vs_ours": "imagehash",
    "imagededup_vs_ours": "imagededup",
}


def video_like_hashes(count: int, seed: int = 0, scenes: int | None = None) -> Hashes:
    """Make hashes as videos give them: scenes that drift by 0 to 3 bits a frame, and singles.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        The same seed gives the same hashes.
    scenes : int, optional
        The seed of the scenes, if they are to be those of other hashes; by default ``seed``.

    Returns
    -------
    ndarray of uint64, shape (count,)
        Scenes of 30 frames on average, one after the other, in which every fifth is a single.
    """
    rng = np.random.default_rng(seed)
    cut, single = scene_starts(count, seed if scenes is None else scenes)
    steps = np.zeros(count, np.uint64)
    flips = rng.integers(0, 4, count)
    for number in range(3):
        bits = np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64)
        steps ^= np.where(flips > number, bits, np.uint64(0))
    fresh = rng.integers(0, 2**64, count, dtype=np.uint64)
    hashes = np.bitwise_xor.accumulate(np.where(cut, fresh, steps))
    return np.where(single, rng.integers(0, 2**64, count, dtype=np.uint64), hashes)


def scene_starts(count: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which frames begin a scene, and which are singles."""
    rng = np.random.default_rng([seed, 1])
    return rng.random(count) < 1 / 30, rng.random(count) < 0.2


def write_video_like_thumbnails(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write thumbnails of such frames, :data:`VIDEO_FRAMES` a file, and return the files.

    The camera stands still in each scene. Frames have noise, and an object of 4% of the picture is
    somewhere in every tenth.
    """
    rng = np.random.default_rng([seed, 2])
    cut, single = scene_starts(count, seed)
    files, base = [], None
    for start in range(0, count, VIDEO_FRAMES):
        made = []
        for row in range(start, min(start + VIDEO_FRAMES, count)):
            if base is None or cut[row]:
                base = _picture(rng)
            image = _picture(rng) if single[row] else _with_object(base, rng)
            noisy = image + rng.normal(0, 2, image.shape).astype(np.float32)
            picture = np.clip(noisy, 0, 255).astype(np.uint8)
            made.append((row - start, make_thumbnail(picture, picture[:, :, 1])))
        files.append(folder / f"{start}" / THUMBNAILS_FILE)
        files[-1].parent.mkdir()
        write_thumbnails(files[-1], VideoThumbnails.of(made))
    return files


def _picture(rng: np.random.Generator) -> NDArray[np.float32]:
    coarse = rng.uniform(0, 255, (5, 8, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT)), np.float32)


def _with_object(base: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    if rng.random() > 0.1:
        return base
    image = base.copy()
    top, left = rng.integers(0, HEIGHT - 14), rng.integers(0, WIDTH - 15)
    part = image[top : top + 14, left : left + 15]
    part += np.where(part.mean() < 128, 60, -60)
    return image


def cpu_seconds(work: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """Return the least CPU time of several calls, all threads together, and the last result."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        result = work()
        times.append(time.process_time() - began)
    return min(times), result


def peak_megabytes() -> float:
    """Return the most memory that this process has had, Python and numpy included."""
    # not getrusage, which knows of the process that started this one too
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    ]
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


def brute_force(hashes: Hashes, rows: NDArray[np.int64], threshold: int) -> NDArray[np.int64]:
    """Return all pairs that begin at the given rows, coded as numbers, by comparing with all."""
    made = []
    for part in np.array_split(rows, max(1, len(rows) * len(hashes) // 4_000_000)):
        distance = np.bitwise_count(hashes[part, None] ^ hashes)
        one, other = np.nonzero(distance <= threshold)
        made.append(code(part[one], other, distance[one, other]))
    codes = np.concatenate(made)
    return np.sort(codes[(codes >> 40) != ((codes >> 8) & 0xFFFF_FFFF)])


def code(i: NDArray[np.int64], j: NDArray[np.int64], distance: NDArray[Any]) -> NDArray[np.int64]:
    """Pack (i, j, distance) into one number each; i below 2**23, or it overflows."""
    return (i << 40) | (j << 8) | distance.astype(np.int64)


def both_ways(pairs: Pairs, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return our pairs that begin or end at the given rows, coded as by :func:`brute_force`."""
    rows_by_source = np.zeros(count, np.bool_)
    rows_by_source[rows] = True
    i, j, distance = pairs
    there, back = rows_by_source[i], rows_by_source[j]
    forward = code(i[there], j[there], distance[there])
    return np.sort(np.concatenate((forward, code(j[back], i[back], distance[back]))))


def faiss_seconds(hashes: Hashes, rows: NDArray[np.int64], threshold: int) -> float | None:
    """Time faiss on the queries at the given rows, scaled to all; None if faiss is missing."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    words = np.ascontiguousarray(hashes).view(np.uint8).reshape(len(hashes), -1)
    index = faiss.IndexBinaryFlat(8 * words.shape[1])
    index.add(words)
    # faiss takes what is nearer than its radius, not what is on it
    seconds, _ = cpu_seconds(lambda: index.range_search(words[rows], threshold + 1), 1)
    return seconds * len(hashes) / len(rows)


def imagehash_seconds(hashes: Hashes, rows: NDArray[np.int64], threshold: int) -> float | None:
    """Time a loop over pairs of imagehash's objects, scaled to all pairs once."""
    try:
        imagehash = importlib.import_module("imagehash")
    except ImportError:
        return None
    made = [imagehash.hex_to_hash(f"{int(each):016x}") for each in hashes]
    seconds, _ = cpu_seconds(
        lambda: [other for row in rows for other in made if made[row] - other <= threshold], 1
    )
    return seconds * len(hashes) / len(rows) / 2


def imagededup_seconds(hashes: Hashes, rows: NDArray[np.int64], threshold: int) -> float | None:
    """Time imagededup's search (brute force, compiled), scaled to all queries."""
    try:
        retrieval = importlib.import_module("imagededup.handlers.search.retrieval")
        hashing = importlib.import_module("imagededup.methods")
    except ImportError:
        return None
    names = {str(row): f"{int(each):016x}" for row, each in enumerate(hashes)}
    some = {str(row): names[str(row)] for row in rows}

    def search(queries: dict[str, str]) -> Any:
        return retrieval.HashEval(
            names,
            queries,
            hashing.PHash.hamming_distance,
            verbose=False,
            threshold=threshold,
            search_method="brute_force_cython",
            num_dist_workers=0,
        )

    search({})  # imports
    began, _ = cpu_seconds(lambda: search({}), 3)
    seconds, _ = cpu_seconds(lambda: search(some), 3)
    return began + (seconds - began) * len(hashes) / len(rows)


def measure_pairs(count: int, threshold: int, slow: bool) -> dict[str, Any]:
    """Measure the search for all pairs; the keys are those of the report, without the size."""
    hashes = video_like_hashes(count)
    ours, pairs = cpu_seconds(lambda: pairs_within(hashes, threshold), repeats(count))
    peak = peak_megabytes()
    rows = np.arange(count)
    if count > ALL_QUERIES_UP_TO:
        rows = np.sort(np.random.default_rng(2).choice(count, SAMPLE, replace=False))
    theirs = faiss_seconds(hashes, rows, threshold)
    found = both_ways(pairs, rows, count)
    few = rows[:: max(1, len(rows) // SLOW_SAMPLE)]
    return {
        "cpu_vs_faiss_flat": ratio(ours, theirs),
        "cpu_seconds": ours,
        "faiss_cpu_seconds": theirs,
        "peak_mb": peak,
        "pairs": len(pairs[0]),
        "pairs_checked_rows": len(rows),
        "pairs_equal": bool(np.array_equal(found, brute_force(hashes, rows, threshold))),
        "cpu_vs_faiss_flat_256_bits": measure_wide(count),
        "imagehash_loop_vs_ours": ratio(imagehash_seconds(hashes, few, threshold), ours)
        if slow
        else None,
        "imagededup_vs_ours": ratio(imagededup_seconds(hashes, rows, threshold), ours)
        if slow
        else None,
    }


def measure_cover(count: int, threshold: int, slow: bool) -> dict[str, Any]:
    """Measure what dedup does by default: two hashes a frame, thumbnails, and the choice of frames.

    Reading the thumbnails counts.
    """
    kinds = [video_like_hashes(count), video_like_hashes(count, seed=3, scenes=0)]
    best_first = np.random.default_rng(1).permutation(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_video_like_thumbnails(folder, count)
        sources = [ThumbnailSource(file, file.parent) for file in files]
        rows_by_source = [
            FrameRows(number, rows, (rows - rows[0]).astype(np.int32), pa.chunked_array([[""]]))
            for number, rows in enumerate(
                np.split(np.arange(count), range(VIDEO_FRAMES, count, VIDEO_FRAMES))
            )
        ]

        def choose() -> tuple[Representatives, int]:
            with stored_pictures(rows_by_source, sources, folder, print) as pictures:
                detector = ChangeDetector(pictures, DedupConfig().min_object)
                made = representatives_of_hashes(kinds, best_first, threshold, 0, detector)
                return made, detector.aligned

        seconds, (made, aligned) = cpu_seconds(choose, repeats(count))
    return {
        "cover_cpu_seconds": seconds,
        "cover_peak_mb": peak_megabytes(),
        "cover_kept": len(np.unique(made.representative)),
        "cover_aligned": aligned,
    }


WORK = {"pairs": measure_pairs, "cover": measure_cover}


def measure(count: int, threshold: int, slow: bool) -> dict[str, Any]:
    """Measure one size, each work in a process of its own."""
    figures: dict[str, Any] = {}
    for work in WORK:
        command = [sys.executable, __file__, "--work", work, "--sizes", str(count)]
        command += ["--threshold", str(threshold), *(["--slow"] if slow else [])]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures.update(json.loads(done.stdout.splitlines()[-1]))
    figures["cover_cpu_vs_faiss_flat"] = ratio(
        figures["cover_cpu_seconds"], figures["faiss_cpu_seconds"]
    )
    return figures


def repeats(count: int) -> int:
    """Return how often to measure: what takes minutes is measured once."""
    return 3 if count < WIDE_UP_TO else 1


def measure_wide(count: int) -> float | None:
    """Measure hashes of 256 bits, where comparing all with all does not take too long."""
    if count > WIDE_UP_TO:
        return None
    hashes = np.stack([video_like_hashes(count, seed) for seed in range(4)], axis=1)
    ours, _ = cpu_seconds(lambda: pairs_within(hashes, WIDE_THRESHOLD), 1)
    return ratio(ours, faiss_seconds(hashes, np.arange(count), WIDE_THRESHOLD))


def ratio(one: float | None, other: float | None) -> float | None:
    """Divide two measurements; None if one of them is missing."""
    return one / other if one is not None and other else None


def growth(figures: dict[int, dict[str, Any]]) -> dict[str, float]:
    """Return between neighbouring sizes the power of the size that the CPU time grows by."""
    return {
        f"growth_{size_name(small)}_{size_name(large)}": math.log(
            figures[large]["cpu_seconds"] / figures[small]["cpu_seconds"]
        )
        / math.log(large / small)
        for small, large in pairwise(sorted(figures))
    }


def size_name(count: int) -> str:
    """Write a size as the keys have it: 10k, 1m."""
    for unit, letter in ((1_000_000, "m"), (1000, "k")):
        if count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def rounded(value: Any) -> Any:
    """Round a measured number to four digits that mean something."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def print_table(figures: dict[int, dict[str, Any]]) -> None:
    """Print the figures for people: a column a size."""
    print(f"{'':24}" + "".join(f"{size_name(count):>14}" for count in figures))
    for key in next(iter(figures.values())):
        cells = ("-" if row[key] is None else str(rounded(row[key])) for row in figures.values())
        print(f"{key:24}" + "".join(f"{cell:>14}" for cell in cells))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument(
        "--sizes", default=",".join(map(str, DEFAULT_SIZES)), help="how many hashes"
    )
    parser.add_argument("--threshold", type=int, default=8, help="bits (default: 8)")
    parser.add_argument("--work", choices=WORK, help="only this, for the first size, as JSON")
    parser.add_argument("--slow", action="store_true", help="with --work: also the slow others")
    return parser.parse_args()


def main() -> None:
    """Measure every size and print the figures."""
    options = arguments()
    sizes = sorted(int(size) for size in options.sizes.split(","))
    if options.work:
        print(json.dumps(WORK[options.work](sizes[0], options.threshold, options.slow)))
        return
    figures = {count: measure(count, options.threshold, count == sizes[0]) for count in sizes}
    for key, package in MISSING.items():
        if figures[sizes[0]][key] is None:
            print(f"{package} is missing, so it was not compared with", file=sys.stderr)
    if not options.json:
        print_table(figures)
        print("\n".join(f"{key}: {rounded(power)}" for key, power in growth(figures).items()))
        return
    flat = {
        f"{key}_{size_name(count)}": rounded(value)
        for count, row in figures.items()
        for key, value in row.items()
        if value is not None
    }
    powers = {key: rounded(power) for key, power in growth(figures).items()}
    print(json.dumps({"threshold": options.threshold, **flat, **powers}, indent=2))


if __name__ == "__main__":
    main()
