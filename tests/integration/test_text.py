"""The text filter, through its real detector."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from dataminer.config.models import FilterConfig
from dataminer.errors import ConfigError, PermanentError, TransientError
from dataminer.frames.arrays import make_table
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_meta, read_table, write_table
from dataminer.stages.embed import text
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.stages.embed.pending import read_fingerprint
from dataminer.stages.embed.text import covered_share
from dataminer.stages.filter.stage import filter_frames
from dataminer.store.layout import Store
from dataminer.vision import scene_text
from dataminer.vision.scene_text import SceneTextDetector, text_weights
from tests.support.frame_rows import frame_row
from tests.support.lettering import WRITINGS, write_on

Picture = NDArray[np.uint8]  # red first


def photograph(name: str, size: tuple[int, int] = (1280, 720)) -> Picture:
    """Return a photograph of scikit-image, cropped and scaled to a width and a height."""
    image = np.asarray(getattr(skimage.data, name)(), np.uint8)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    height = round(image.shape[1] * size[1] / size[0])
    rows = image[: min(height, len(image))]
    return np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_AREA), np.uint8)


def noise(size: tuple[int, int] = (1280, 720)) -> Picture:
    """Return soft spots of all colours."""
    spots = np.random.default_rng(0).integers(0, 256, (45, 80, 3), np.uint8)
    return np.asarray(cv2.resize(spots, size, interpolation=cv2.INTER_CUBIC), np.uint8)


BACKGROUNDS: dict[str, Callable[[], Picture]] = {
    "chelsea": lambda: photograph("chelsea"),
    "rocket": lambda: photograph("rocket"),
    "noise": noise,
}


@pytest.fixture(scope="module")
def detector() -> SceneTextDetector:
    return SceneTextDetector(text_weights(), 640, 0.5)


def text_area(detector: SceneTextDetector, picture: Picture) -> float:
    return covered_share(detector.find(np.ascontiguousarray(picture[..., ::-1])).corners)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("height", [28, 44, 72])
def test_text_of_any_script_is_found_where_it_is(
    detector: SceneTextDetector, writing: str, height: int, background: str
) -> None:
    plain = BACKGROUNDS[background]()
    written, share = write_on(plain, WRITINGS[writing], (60, 420), height)
    found = text_area(detector, written)
    assert 0.7 * share < found < 1.45 * share
    assert text_area(detector, written) == found  # the same frame again
    left, top, right, bottom = 60 / 1280, 400 / 720, 1, 520 / 720
    corners = detector.find(np.ascontiguousarray(written[..., ::-1])).corners
    assert (corners.min(axis=(0, 1)) > (left - 0.02, top)).all()
    assert (corners.max(axis=(0, 1)) < (right, bottom)).all()


def test_several_lines_in_several_places_add_up(detector: SceneTextDetector) -> None:
    picture, total = photograph("rocket"), 0.0
    lines = [
        ("A title at the top", 100, 30),
        ("and a subtitle below it", 48, 620),
        ("logo", 40, 300),
    ]
    for line, height, top in lines:
        picture, share = write_on(picture, line, (100, top), height)
        total += share
    assert 0.8 * total < text_area(detector, picture) < 1.3 * total


@pytest.mark.parametrize("size", [(720, 1280), (320, 180), (3840, 2160), (641, 359)], ids=str)
def test_pictures_of_other_sizes(detector: SceneTextDetector, size: tuple[int, int]) -> None:
    plain = photograph("chelsea", size)
    height = round(0.09 * min(size))
    picture, share = write_on(plain, "A few words", (size[0] // 9, size[1] // 2), height)
    assert 0.7 * share < text_area(detector, picture) < 1.6 * share


def test_text_at_an_angle_is_measured_at_its_angle(detector: SceneTextDetector) -> None:
    plain = np.full((720, 720, 3), 60, np.uint8)
    picture, share = write_on(plain, "A line of text at an angle", (100, 330), 40)
    turn = cv2.getRotationMatrix2D((360, 360), 30, 1)
    turned = np.asarray(
        cv2.warpAffine(picture, turn, (720, 720), borderValue=(60, 60, 60)), np.uint8
    )
    assert 0.8 * share < text_area(detector, turned) < 1.4 * share


@pytest.mark.parametrize(
    # a plate, a disc and a silhouette, which the network takes for letters, are among them
    "name",
    ["astronaut", "rocket", "chelsea", "coffee", "camera", "brick", "colorwheel", "horse"],
)
def test_pictures_without_text(detector: SceneTextDetector, name: str) -> None:
    picture = np.asarray(getattr(skimage.data, name)())
    if picture.dtype == bool:
        picture = picture.astype(np.uint8) * 255
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    assert text_area(detector, picture) < 0.005
    assert text_area(detector, np.zeros_like(picture)) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (3000, 2), (33, 17), (640, 32)], ids=str)
def test_pictures_that_hold_no_text(detector: SceneTextDetector, size: tuple[int, int]) -> None:
    assert text_area(detector, np.full((*size, 3), 128, np.uint8)) == 0


def test_threads_give_the_same_and_each_does_its_own_work(detector: SceneTextDetector) -> None:
    picture, _ = write_on(photograph("rocket"), "Words", (60, 300), 60)
    pictures = [np.roll(picture, 40 * shift, axis=1) for shift in range(6)]
    process, thread = time.process_time(), time.thread_time()
    alone = [text_area(detector, each) for each in pictures]
    process, thread = time.process_time() - process, time.thread_time() - thread
    assert process < 1.25 * thread
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda each: text_area(detector, each), pictures)) == alone
    assert min(alone) > 0.01


# ---- the files of videos -----------------------------------------------------------------------


def frames(store: Store, video_id: str, pictures: dict[int, Picture | None]) -> Path:
    """Write a video's frames; those that are None are damaged files."""
    folder = store.recipe(video_id, video_id)
    folder.mkdir(parents=True)
    rows = []
    for index, picture in pictures.items():
        size = {} if picture is None else {"width": picture.shape[1], "height": picture.shape[0]}
        rows.append(frame_row(video_id, index, **size))
        path = folder / rows[-1]["file_name"]
        if picture is None:
            path.write_bytes(b"\xff\xd8 not an image")
        else:
            cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    columns = {field.name: [row.get(field.name) for row in rows] for field in FRAMES_SCHEMA}
    table = make_table(columns, FRAMES_SCHEMA) if rows else FRAMES_SCHEMA.empty_table()
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {"fingerprint": video_id})
    return folder


def made_models(folder: Path, **settings: object) -> FrameModels:
    given = {"max_area": 0.05, **settings}
    return FrameModels(Store(folder), FilterConfig.model_validate({"text": given}))


def run_models(models: FrameModels, *videos: str, threads: int = 2) -> list[str]:
    """Run the models on videos; return the messages."""
    printed: list[str] = []
    folders = {video_id: [models.store.recipe(video_id, video_id)] for video_id in videos}
    models.run_models(folders, threads, printed.append)
    return printed


def filtered(models: FrameModels, video_id: str, out: Path) -> tuple[list[int], list[Any]]:
    """Filter a video; return the frames that pass, and the scores of all."""
    out.mkdir()
    folder = models.store.recipe(video_id, video_id)
    scores = models.frame_scores(video_id, read_meta(folder / FRAMES_FILE))
    filter_frames(folder, out, models.settings, scores=scores)
    passed: list[int] = read_table(out / FRAMES_FILE)["frame_index"].to_pylist()
    return passed, read_table(out / "scores.parquet").to_pylist()


PLAIN = photograph("rocket", (640, 360))
SUBTITLE, SUBTITLE_SHARE = write_on(PLAIN, "A subtitle of a film", (150, 310), 24)
TITLE, TITLE_SHARE = write_on(PLAIN, "The Title\nOf The Film", (60, 80), 80)
VIDEO = {0: PLAIN, 10: SUBTITLE, 20: TITLE, 30: None, 40: SUBTITLE}


def no_network(*_: object, **__: object) -> None:
    raise AssertionError("it asks the network")


def test_frames_pass_by_the_area_of_text_and_another_maximum_needs_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    models = made_models(tmp_path)
    frames(models.store, "v", VIDEO)
    frames(models.store, "none", {})
    assert models.on and not models.on_gpu and not models.embeds
    assert models.outdated_videos({"v": ["v"], "none": ["none"]}) == ["v", "none"]
    with pytest.raises(TransientError, match="have not processed the present frames of video v"):
        filtered(models, "v", tmp_path / "early")

    printed = run_models(models, "v", "none")
    assert sum("loaded the text detector" in line for line in printed) == 1
    assert printed[-1] == "model loads: 1 for 2 videos (2 by text)"
    assert models.outdated_videos({"v": ["v"], "none": ["none"]}) == []

    monkeypatch.setattr(text, "SceneTextDetector", None)  # to call it would fail
    assert run_models(models, "v", "none")[-1] == "model loads: 0 for 2 videos (0 by text)"
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"max_area": 0.05}, [0, 10, 40]),
        ({"max_area": 0.01}, [0]),
        ({"max_area": 1}, [0, 10, 20, 40]),  # a frame that cannot be read has no text area
        ({"max_area": 0, "confidence": 1.0}, [0, 10, 20, 40]),
    ]
    for number, (settings, passing) in enumerate(cases):
        again = made_models(tmp_path, **settings)
        passed, scores = filtered(again, "v", tmp_path / f"out{number}")
        assert passed == passing, settings
        assert [row["frame_index"] for row in scores] == [*VIDEO]
        rejected = [None if row["frame_index"] in passing else "text.max_area" for row in scores]
        assert [row["rejected"] for row in scores] == rejected
    areas = [row["text_area"] for row in filtered(models, "v", tmp_path / "areas")[1]]
    assert areas[0] == 0 and areas[3] is None
    assert areas[1] == areas[4] == pytest.approx(SUBTITLE_SHARE, rel=0.4)
    assert areas[2] == pytest.approx(TITLE_SHARE, rel=0.4)
    assert filtered(models, "none", tmp_path / "no frames")[0] == []


def test_the_number_of_threads_does_not_show_in_the_file(tmp_path: Path) -> None:
    written = []
    for threads in (1, 3):
        models = made_models(tmp_path / str(threads))
        frames(models.store, "v", VIDEO)
        run_models(models, "v", threads=threads)
        written.append(models.text("v", "v").read_bytes())
    assert written[0] == written[1]


def test_a_video_is_processed_again_by_other_weights_or_at_another_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = made_models(tmp_path)
    frames(models.store, "v", {0: SUBTITLE})
    run_models(models, "v")
    before = read_fingerprint(models.text("v", "v"))
    wider = made_models(tmp_path, image_size=320)
    assert wider.outdated_videos({"v": ["v"]}) == ["v"]
    assert "1 by text" in run_models(wider, "v")[-1]
    assert made_models(tmp_path, max_area=0.5, confidence=0.9).outdated_videos({"v": ["v"]}) == []
    assert models.outdated_videos({"v": ["other frames"]}) == ["v"]

    # where the libraries are missing, as beside environments of conda, the file is enough
    with monkeypatch.context() as patch:
        patch.setattr(scene_text, "find_spec", lambda name: None)
        assert models.outdated_videos({"v": ["v"]}) == []

    other = tmp_path / "other.onnx"
    other.write_bytes(text_weights().read_bytes() + b"\0\0")
    monkeypatch.setattr(text, "text_weights", lambda: other)
    assert models.outdated_videos({"v": ["v"]}) == ["v"]
    found = text_weights()
    monkeypatch.setattr(text, "SceneTextDetector", lambda *_: SceneTextDetector(found, 640, 0.3))
    run_models(models, "v")
    assert read_fingerprint(models.text("v", "v")) not in (before, None)
    assert models.outdated_videos({"v": ["v"]}) == []


def test_a_failure_of_the_detector_is_not_taken_for_a_damaged_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object) -> None:
        raise ValueError("no room")

    models = made_models(tmp_path)
    frames(models.store, "v", {0: PLAIN})
    monkeypatch.setattr(SceneTextDetector, "find", find)
    with pytest.raises(RuntimeError, match="the text detector failed: no room"):
        run_models(models, "v")
    assert not models.text("v", "v").exists()


# ---- what may be missing -----------------------------------------------------------------------


def test_without_the_library_an_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = made_models(tmp_path)
    frames(models.store, "v", {0: PLAIN})
    monkeypatch.setattr(scene_text, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"rapidocr and onnxruntime.*\n?.*make text"):
        run_models(models, "v")


class Installed(str):
    """A file as an installed package lists it."""

    folder: Path

    def locate(self) -> Path:
        return self.folder / self


@pytest.mark.parametrize(
    ("installed", "beside", "found"),
    [
        (["a_det_b.onnx"], [], "a_det_b.onnx"),
        (["a_det_b.onnx"], ["c_det_d.onnx"], "a_det_b.onnx"),  # rapidocr downloads others there
        (["a_det_b.onnx", "c_det_d.onnx"], [], None),
        ([], ["c_det_d.onnx"], None),
        ([], [], None),
    ],
)
def test_the_weights_are_those_of_the_wheel(
    installed: list[str],
    beside: list[str],
    found: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "rapidocr" / "models").mkdir(parents=True)
    for name in [*installed, *beside, "a_rec_b.onnx"]:
        (tmp_path / "rapidocr" / "models" / name).write_bytes(b"")
    monkeypatch.setattr(Installed, "folder", tmp_path, raising=False)
    listed = [Installed(f"rapidocr/models/{name}") for name in [*installed, "a_rec_b.onnx"]]
    monkeypatch.setattr(scene_text, "files", lambda name: listed)
    if found:
        assert text_weights() == tmp_path / "rapidocr" / "models" / found
        return
    with pytest.raises(PermanentError, match=f"found {', '.join(installed) or 'none'}"):
        text_weights()


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    for data in (b"", b"no model", text_weights().read_bytes()[:100_000]):
        damaged.write_bytes(data)
        with pytest.raises(PermanentError, match=f"cannot load the text detector {damaged}"):
            SceneTextDetector(damaged, 640, 0.5)
