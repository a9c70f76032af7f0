"""What the program ffmpeg makes of a cell's video, and what of that is wrong.

It is called as most people do who want one frame every so often: ``ffmpeg -i VIDEO -vf fps=...``.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np

from tests.support.matrix.cell import STEP, Cell
from tests.support.matrix.pictures import Image, combing, patch_error, read_number

FACTS = Path(__file__).with_name("ffmpeg_faults.json")
"""What was measured: by the name of a cell, what ffmpeg does wrong with its video."""
_SPARE_FRAMES = 20  # more than this many too many are not counted
_COMBED = 2.0
_OF_OPTIONS = ("deprecated", "Last message repeated")  # printed for formats of pixels


def faults(cell: Cell, video: Path) -> str:
    """Return what is wrong with what ffmpeg gives, in a few words; nothing if all is right."""
    expected = len(cell.numbers or ())
    limit = (expected or 100) + _SPARE_FRAMES
    done = subprocess.run(
        [*_command(cell, video), "-frames:v", str(limit), "-c:v", "ppm", "-f", "image2pipe", "-"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    images = _images(done.stdout)
    if cell.refused:
        return f"{len(images)} frames, and no error" if images and not done.returncode else ""
    if not images:
        return "no frame"
    parts = [*_wrong_frames(cell, images, limit), *_wrong_pictures(cell, images)]
    if (cell.warns or cell.some_of) and not _warnings(done.stderr.decode(errors="replace")):
        parts.append("no word of it")
    return "; ".join(parts)


def kinds(text: str) -> str:
    """Return a text of :func:`faults` without its numbers, which differ from version to version."""
    return re.sub(r"\d+", "N", text)


def known_faults() -> dict[str, str]:
    """Return what was measured, by the names of cells."""
    faults_by_name: dict[str, str] = json.loads(FACTS.read_text(encoding="utf-8"))["faults"]
    return faults_by_name


def measured_with() -> str:
    """Return the version of ffmpeg that was measured, such as 5.1."""
    return str(json.loads(FACTS.read_text(encoding="utf-8"))["version"])


def version() -> str:
    """Return the first two numbers of the version of the program ffmpeg."""
    done = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    found = re.match(r"ffmpeg version n?(\d+\.\d+)", done.stdout)
    return found[1] if found else "unknown"


def _command(cell: Cell, video: Path) -> list[str]:
    command = ["ffmpeg", "-v", "warning", "-threads", "1", "-i", str(video)]
    strategy = cell.settings.get("strategy", "time")
    if strategy != "time":
        return [*command, "-fps_mode", "passthrough"]
    return [*command, "-vf", f"fps=1/{cell.settings.get('every_seconds', STEP)}"]


def _warnings(printed: str) -> list[str]:
    """Return what was printed, but for what has nothing to do with the input."""
    lines = [line for line in printed.splitlines() if line.strip()]
    return [line for line in lines if not any(part in line for part in _OF_OPTIONS)]


def _images(data: bytes) -> list[Image]:
    """Split a stream of PPM images; those of more than 8 bits come as 8."""
    images, at = [], 0
    while at < len(data):
        header = re.compile(rb"P6\n(\d+) (\d+)\n(\d+)\n").match(data, at)
        assert header
        width, height, peak = map(int, header.groups())
        size = width * height * 3 * (2 if peak > 255 else 1)
        image = cv2.imdecode(
            np.frombuffer(data[at : header.end() + size], np.uint8), cv2.IMREAD_COLOR
        )
        assert image is not None
        images.append(image[..., ::-1].astype(np.uint8, copy=False))
        at = header.end() + size
    return images


def _wrong_frames(cell: Cell, images: list[Image], limit: int) -> list[str]:
    if cell.numbers is None:
        return []
    count, right = len(images), len(cell.numbers)
    if count >= limit:
        return [f"more than {count} frames instead of {right}"]
    if abs(count - right) > 1:
        return [f"{count} of {right} frames"]
    if cell.size not in {image.shape[1::-1] for image in images}:
        return []  # the counter cannot be read in other geometry
    numbers = [number for number in map(read_number, images) if number is not None]
    # the filter fps rounds times to the nearest: its frames may be half a step away
    near = 1 + max(abs(b - a) for a, b in itertools.pairwise(cell.numbers)) // 2 if right > 1 else 1
    missing = [n for n in cell.numbers if all(abs(n - other) > near for other in numbers)]
    return [f"{len(missing)} of {right} frames are others"] if missing else []


def _wrong_pictures(cell: Cell, images: list[Image]) -> list[str]:
    parts = []
    sizes = {image.shape[1::-1] for image in images}
    if cell.size and sizes != {cell.size}:
        width, height = sorted(sizes - {cell.size})[0]
        parts.append(f"{width}x{height} pixels instead of {cell.size[0]}x{cell.size[1]}")
    elif cell.error is not None:
        error = max(patch_error(image, cell.truth) for image in images)
        if error > cell.error:
            parts.append(f"colours wrong by {error:.0f}")
    if cell.columns.get("deinterlaced") and max(map(combing, images)) > _COMBED:
        parts.append("combed")
    return parts
