"""Videos of every kind give the right frames: each is drawn, so that what is right is known."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dataminer.config.models import ExtractConfig
from dataminer.errors import StageError
from dataminer.frames.notes import NOTE_KINDS, warnings
from dataminer.frames.table import FRAMES_FILE, read_meta, read_table
from dataminer.stages.extract.stage import extract
from tests.support.matrix.cell import STEP, Cell, Result
from tests.support.matrix.cells import CELLS
from tests.support.matrix.ffmpeg import faults, kinds, known_faults, measured_with, version
from tests.support.matrix.pictures import patch_error, read_number

_TIME_ERROR = 0.0015  # seconds: some containers count milliseconds


@pytest.fixture(autouse=True)
def quiet_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    av.logging.set_level(av.logging.ERROR)


def result_of(cell: Cell, folder: Path) -> Result:
    """Make a cell's video, and extract its frames."""
    video, out = cell.make(folder / cell.file_name), folder / "out"
    out.mkdir()
    settings = {"every_seconds": STEP, "image_format": "png", **cell.settings}
    done = extract(video, out, "v", ExtractConfig.model_validate(settings))
    rows = read_table(out / FRAMES_FILE).to_pylist()
    images = []
    for row in rows:
        data = cv2.imdecode(np.fromfile(out / row["file_name"], np.uint8), cv2.IMREAD_COLOR)
        assert data is not None
        assert (row["width"], row["height"]) == data.shape[1::-1]
        images.append(data[..., ::-1].astype(np.uint8, copy=False))
    numbers = [read_number(image) for image in images]
    seconds = [row["pts_time"] for row in rows]
    return Result(video, images, numbers, seconds, rows, read_meta(out / FRAMES_FILE), done.warning)


def check_numbers(cell: Cell, result: Result) -> None:
    """See that the right pictures came at the right times."""
    times = [second - result.seconds[0] for second in result.seconds]
    assert times == sorted(set(times)), "times ascend"
    if cell.numbers is None:
        return
    if not cell.about:
        assert result.numbers == list(cell.numbers)
        assert times == pytest.approx(cell.times, abs=_TIME_ERROR)
        return
    numbers = [number for number in result.numbers if number is not None]
    assert len(numbers) == len(result.numbers)
    assert abs(len(numbers) - len(cell.numbers)) <= 1, numbers
    assert all(min(abs(n - right) for n in numbers) <= 5 for right in cell.numbers), numbers


def check_notes(cell: Cell, result: Result) -> None:
    """See that all that is lost, mended or converted is said, and nothing else."""
    notes = result.meta["notes"]
    assert set(notes) <= set(NOTE_KINDS)
    warned = {kind for kind in notes if NOTE_KINDS[kind].is_warning}
    assert cell.warns <= warned <= cell.warns | cell.some_of | cell.may_warn, notes
    assert not cell.some_of or warned & cell.some_of, notes
    assert set(notes) - warned == cell.converts, notes
    for sentence in warnings(notes):
        assert sentence in (result.warning or "")
    assert ("truncated" in (result.warning or "")) == ("truncated" in warned)
    assert bool(result.warning) == bool(warned)


def check_pictures(cell: Cell, result: Result) -> None:
    """See that sizes, colours and columns are right."""
    if cell.size:
        assert {image.shape[1::-1] for image in result.images} == {cell.size}
        assert (result.meta["video"]["width"], result.meta["video"]["height"]) == cell.size
    if cell.error is not None:
        errors = [patch_error(image, cell.truth) for image in result.images]
        assert max(errors) <= cell.error, errors
    for name, value in cell.columns.items():
        assert {row[name] for row in result.rows} == {value}, name


def _some_of_each_group(found: Collection[str]) -> list[str]:
    """Return every third name: to see all again would double the time of the matrix."""
    return sorted(found)[::3]


def names(cells: Collection[Cell]) -> list[str]:
    return [cell.name for cell in cells]


def test_there_are_many_cells_and_no_two_have_one_name() -> None:
    assert len(CELLS) >= 120
    assert len(set(names(CELLS))) == len(CELLS)


def test_what_is_known_of_ffmpeg_is_of_cells_that_are_there() -> None:
    assert set(known_faults()) <= set(names(CELLS))


@pytest.mark.parametrize("cell", CELLS, ids=names(CELLS))
def test_frames_times_colours_geometry_and_warnings(cell: Cell, tmp_path: Path) -> None:
    if cell.refused:
        with pytest.raises(StageError, match=cell.refused.message) as failed:
            result_of(cell, tmp_path)
        assert failed.value.error_class == cell.refused.error_class
        return
    result = result_of(cell, tmp_path)
    check_numbers(cell, result)
    check_pictures(cell, result)
    check_notes(cell, result)
    if cell.check:
        cell.check(cell, result)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
@pytest.mark.parametrize("name", _some_of_each_group(known_faults()))
def test_ffmpeg_is_wrong_where_the_page_says_so(name: str, tmp_path: Path) -> None:
    if version() != measured_with():
        pytest.skip(f"measured with ffmpeg {measured_with()}")
    cell = next(cell for cell in CELLS if cell.name == name)
    found = faults(cell, cell.make(tmp_path / cell.file_name))
    assert kinds(found) == kinds(known_faults()[name])
