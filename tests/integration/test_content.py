"""The content filter, through a real detector of a small size."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dataminer.config.models import FilterConfig
from dataminer.errors import TransientError
from dataminer.frames.arrays import make_table
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_meta, read_table, write_table
from dataminer.stages.embed import content
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.stages.filter.stage import filter_frames
from dataminer.store.layout import Store
from demo.shapes import Shape, draw, photographs
from tests.support.frame_rows import frame_row

pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="no ultralytics")

# of sizes that the detector was trained on: what it makes of others differs from machine to machine
DISC = Shape("disc", 170, 180, 90, colour=1)
BOX = Shape("box", 460, 180, 95, colour=0)
SMALL = Shape("box", 460, 180, 65, colour=0)
FRAMES = {0: [DISC], 10: [DISC, BOX], 20: [BOX], 30: [], 40: [DISC, SMALL]}


def frames(
    store: Store, video_id: str, shapes: dict[int, list[Shape]], size: tuple[int, int] = (640, 360)
) -> None:
    """Write a video's frames with shapes on a photograph."""
    folder = store.recipe(video_id, video_id)
    folder.mkdir(parents=True)
    rows = []
    for position, planted in shapes.items():
        resized = cv2.resize(photographs()[0], (640, 360), interpolation=cv2.INTER_AREA)
        image = resized.astype(np.uint8, copy=False)
        for shape in planted:
            draw(image, shape)
        rows.append(frame_row(video_id, position, width=size[0], height=size[1]))
        cv2.imwrite(str(folder / rows[-1]["file_name"]), cv2.resize(image, size))
    columns = {field.name: [row.get(field.name) for row in rows] for field in FRAMES_SCHEMA}
    table = make_table(columns, FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {"fingerprint": video_id})


def made_models(folder: Path, weights: Path, **requested: object) -> FrameModels:
    # the detector takes a stone of the photograph for a box, at 0.43
    small = {"image_size": 320, "batch": 3, "device": "cpu", "confidence": 0.53}
    given = {"model": str(weights), **small, **requested}
    return FrameModels(Store(folder), FilterConfig.model_validate({"content": given}))


def kept(what: FrameModels, video_id: str, out: Path) -> list[int]:
    out.mkdir()
    folder = what.store.recipe(video_id, video_id)
    found_scores = what.frame_scores(video_id, read_meta(folder / FRAMES_FILE))
    filter_frames(folder, out, what.settings, scores=found_scores)
    frame_indexes: list[int] = read_table(out / FRAMES_FILE)["frame_index"].to_pylist()
    return frame_indexes


def test_frames_pass_by_what_is_in_them_and_other_classes_need_no_model(
    shapes_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = made_models(tmp_path, shapes_weights, require=["disc"])
    frames(what.store, "v", FRAMES)
    frames(what.store, "upright", {0: [DISC], 1: []}, size=(360, 640))
    printed: list[str] = []
    what.run_models({v: [what.store.recipe(v, v)] for v in ("v", "upright")}, 2, printed.append)
    assert sum("loaded the content model" in line for line in printed) == 1
    assert printed[-1] == "model loads: 1 for 2 videos (2 by content)"

    monkeypatch.setattr(content, "open_detector", None)  # to call it would fail
    what.run_models({v: [what.store.recipe(v, v)] for v in ("v", "upright")}, 2, printed.append)
    assert printed[-1] == "model loads: 0 for 2 videos (0 by content)"

    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"require": ["disc"]}, [0, 10, 40]),
        ({"require": ["Disc", "box"]}, [10, 40]),
        ({"require": ["disc|box"]}, [0, 10, 20, 40]),
        ({"require": ["disc"], "exclude": ["box"]}, [0]),
        ({"exclude": ["disc", "box"]}, [30]),
        ({"require": ["disc"], "exclude": ["box"], "min_size": 0.03}, [0, 40]),
        ({"require": ["disc"], "confidence": 1.0}, []),
    ]
    for number, (settings, positions) in enumerate(cases):
        again = made_models(tmp_path, shapes_weights, **settings)
        assert kept(again, "v", tmp_path / f"out{number}") == positions, settings
    scores = read_table(tmp_path / "out3" / "scores.parquet")
    assert scores["rejected"].to_pylist() == [
        None,
        "content.exclude",
        "content.require",
        "content.require",
        "content.exclude",
    ]
    assert scores["required"].to_pylist()[0] > 0.3
    with pytest.raises(TransientError, match=r"knows no class 'boxx'.*did you mean box"):
        kept(made_models(tmp_path, shapes_weights, require=["boxx"]), "v", tmp_path / "no")
