"""What changed between two frames: objects of a size that matters, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile

import cv2
import numpy as np
import pytest

from dataminer.config.models import DedupConfig
from dataminer.errors import PermanentError
from dataminer.frames.thumbnails import PARTS, Thumbnail
from dataminer.stages.dedup import change_detection
from dataminer.stages.dedup.change_detection import ChangeDetector
from dataminer.stages.dedup.changed_share import changed_share
from dataminer.stages.dedup.small_picture import SmallPicture
from dataminer.stages.dedup.thumbnails import StoredPictures
from dataminer.stages.extract.quality.metrics import measure
from tests.support.drawn_scenes import Picture, scene, with_noise, with_object

Progress = Callable[[str], None]
LEAST = DedupConfig().min_object
POSITIONS = [(0.2, 0.3), (0.75, 0.25), (0.5, 0.5), (0.3, 0.8), (0.8, 0.7)]


def thumbnail(picture: Picture) -> Thumbnail:
    return measure(picture).thumbnail


def share(one: Picture, other: Picture) -> float:
    return changed_share(
        SmallPicture(thumbnail(one).jpeg), SmallPicture(thumbnail(other).jpeg), LEAST
    )


class Desk:
    """Where frames are looked at; what is on it is put away after the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def of(
        self, *pictures: Picture, least: float = LEAST, progress: Progress = print
    ) -> ChangeDetector:
        return self.stored([thumbnail(picture) for picture in pictures], least, progress)

    def stored(
        self, thumbnails: list[Thumbnail], least: float = LEAST, progress: Progress = print
    ) -> ChangeDetector:
        sizes = np.array([len(each.jpeg) for each in thumbnails])
        file = self._stack.enter_context(TemporaryFile())  # noqa: SIM115
        file.write(b"".join(each.jpeg for each in thumbnails))
        file.flush()
        means = np.stack([each.means for each in thumbnails])
        pictures = StoredPictures(means, np.cumsum(sizes) - sizes, sizes, file)
        return ChangeDetector(pictures, least, progress)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(stack)


def pair(detector: ChangeDetector) -> float:
    return float(detector.changed(np.array([0]), np.array([1]))[0])


@pytest.mark.parametrize("seed", range(5))
def test_an_object_that_appears_is_a_change_of_about_its_size(seed: int) -> None:
    background = scene(seed)
    for size in (0.03, 0.05, 0.1):
        put = with_object(background, size, POSITIONS[seed])
        found = share(with_noise(background, 1), with_noise(put, 2))
        assert LEAST < found < 2 * size
        assert found > 0.5 * size


@pytest.mark.parametrize("seed", range(5))
def test_an_object_that_moves_is_a_change(seed: int) -> None:
    one = with_object(scene(seed), 0.03, POSITIONS[seed], (30, 60, 200))
    other = with_object(scene(seed), 0.03, POSITIONS[seed - 1], (30, 60, 200))
    assert share(with_noise(one, 1), with_noise(other, 2)) > LEAST


def test_an_object_of_its_backgrounds_tone_is_seen_by_its_colour() -> None:
    grey = np.full((360, 640, 3), 128, np.uint8)
    red = with_object(grey, 0.03, colour=(70, 90, 235))
    assert abs(float(cv2.cvtColor(red, cv2.COLOR_BGR2GRAY).mean()) - 128) < 1
    assert share(with_noise(grey, 1), with_noise(red, 2)) > LEAST


def slide(words: str) -> Picture:
    """Draw a white slide with a few thin lines of text, letters of fifteen pixels."""
    made = np.full((540, 960, 3), 250, np.uint8)
    for line in range(6):
        text = words[7 * line :] + words[: 7 * line]
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(made, text, (60, 90 + 55 * line), font, 0.7, (20, 20, 20), 1, cv2.LINE_AA)
    return made


def test_other_words_of_a_sparse_slide_are_a_change() -> None:
    one = slide("quadratic forms over rings, and what remains of them")
    other = slide("local fields: a tale in six parts without any proofs")
    assert share(with_noise(one, 1), with_noise(other, 2)) > LEAST
    assert share(with_noise(one, 1), with_noise(one, 2)) <= LEAST


def darker(picture: Picture) -> Picture:
    return np.asarray(picture * 0.6, np.uint8)


def brighter(picture: Picture) -> Picture:
    return np.asarray(np.clip(picture * 1.25, 0, 255), np.uint8)


def gamma(picture: Picture) -> Picture:
    return np.asarray(255 * (picture / 255.0) ** 1.3, np.uint8)


def warmer(picture: Picture) -> Picture:
    return np.asarray(np.clip(picture * np.array([0.9, 1.0, 1.08]), 0, 255), np.uint8)


def blurred(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 2), np.uint8)


def smaller(picture: Picture) -> Picture:
    return np.asarray(cv2.resize(picture, (160, 90), interpolation=cv2.INTER_AREA), np.uint8)


def panned(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[5:, 11:])


def zoomed(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[7:-7, 12:-12])


def shaded(picture: Picture) -> Picture:
    """Darken one side softly, as somebody's shadow does."""
    ramp = np.linspace(0.93, 1.0, picture.shape[1])[None, :, None]
    return np.asarray(picture * ramp, np.uint8)


def with_small_object(picture: Picture) -> Picture:
    return with_object(picture, 0.004)


ALTERATIONS = [
    *(darker, brighter, gamma, warmer, blurred, smaller, panned, zoomed, shaded),
    with_small_object,
]


@pytest.mark.parametrize("alter", ALTERATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_what_shows_the_same_has_not_changed(
    alter: Callable[[Picture], Picture], seed: int
) -> None:
    picture = scene(seed)
    altered = with_noise(alter(picture), 1)
    assert share(with_noise(picture, 2), altered) <= LEAST
    assert share(altered, with_noise(picture, 2)) <= LEAST


def test_an_upright_picture_is_looked_at_like_any_other() -> None:
    picture = scene(1, (640, 360))
    assert share(with_noise(picture, 1), with_noise(darker(picture), 2)) <= LEAST
    assert share(with_noise(picture, 1), with_noise(with_object(picture, 0.03), 2)) > LEAST


def test_the_order_does_not_matter() -> None:
    one, other = (SmallPicture(thumbnail(scene(seed)).jpeg) for seed in (1, 2))
    assert changed_share(one, other, LEAST) == changed_share(other, one, LEAST)
    flat = SmallPicture(thumbnail(np.full((360, 640, 3), 128, np.uint8)).jpeg)
    assert changed_share(flat, flat, LEAST) == 0


def test_a_glance_is_enough_for_most_frames_of_a_still_camera(desk: Desk) -> None:
    still = scene(3)
    same = desk.of(with_noise(still, 1), with_noise(still, 2))
    assert (pair(same), same.aligned) == (0, 0)
    changed = desk.of(with_noise(still, 1), with_noise(with_object(still, 0.08), 2))
    assert pair(changed) > LEAST
    assert changed.aligned == 0
    lit = desk.of(still, darker(still))
    assert pair(lit) <= LEAST
    assert lit.aligned == 1


def test_a_glance_and_a_look_agree(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = []
    for number in range(12):
        still, size = scene(4), 0.01 * (number % 6)
        picture = with_object(still, size, POSITIONS[number % 5]) if size else still
        pictures.append(with_noise(picture, number))
    one, other = np.triu_indices(len(pictures), 1)
    detector = desk.of(*pictures)
    glanced = detector.are_same(detector.changed(one, other))
    assert 0 < detector.aligned < len(one)
    monkeypatch.setattr(change_detection, "_QUIET", -1)  # nothing is decided at a glance
    monkeypatch.setattr(change_detection, "_LOUD", 1000)
    every = desk.of(*pictures)
    aligned = every.are_same(every.changed(one, other))
    assert every.aligned == len(one)
    assert (glanced == aligned).all()
    assert 0 < glanced.sum() < len(one)


def test_min_object_decides_from_which_size_on(desk: Desk) -> None:
    one, other = with_noise(scene(5), 1), with_noise(with_object(scene(5), 0.05), 2)
    for least, same in ((0.012, False), (0.2, True)):
        detector = desk.of(one, other, least=least)
        assert detector.are_same(np.array([pair(detector)], np.float32)).tolist() == [same]


def test_a_frame_without_a_thumbnail_shows_the_same_as_no_other(desk: Desk) -> None:
    empty = Thumbnail(b"", np.zeros((3, PARTS), np.uint8))
    assert pair(desk.stored([thumbnail(scene(1)), empty])) == 1
    assert pair(desk.stored([empty, empty])) == 1


def test_a_thumbnail_that_is_no_image_is_said(desk: Desk) -> None:
    broken = thumbnail(scene(1))._replace(jpeg=b"no image")
    with pytest.raises(PermanentError, match="no image of the right size") as caught:
        pair(desk.stored([broken, thumbnail(darker(scene(1)))]))
    assert "thumbnails.parquet" in caught.value.hint


def test_long_work_is_reported(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_detection, "_REPORT_SECONDS", -1.0)
    messages: list[str] = []
    pair(desk.of(scene(1), darker(scene(1)), progress=messages.append))
    assert messages == ["looked closely at 1 pairs of frames so far"]
