"""Detectors behind their interface: of ultralytics, and of the transformers library."""

from __future__ import annotations

import importlib
import importlib.machinery
import shutil
import socket
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dataminer.config.models import DetectConfig
from dataminer.errors import ConfigError, ErrorClass, PermanentError, TransientError
from dataminer.frames.boxes import Box
from dataminer.vision import weights
from dataminer.vision.detectors import distinct, open_detector
from dataminer.vision.prefetch import BgrImage
from dataminer.vision.weights import class_names, load_model, quiet_ultralytics
from tests.support import tiny_text_models, torchvision_shim

PROMPTS = ["red disc", "Blue box"]
SETTINGS = DetectConfig(prompts=PROMPTS, confidence=0.3, device="cpu")

needs_ultralytics = pytest.mark.skipif(find_spec("ultralytics") is None, reason="no ultralytics")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any look at a network fail the test, instead of finding none."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("it went to the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def pictures(count: int, height: int, width: int) -> list[BgrImage]:
    rng = np.random.default_rng(7)
    small = rng.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    return [cv2.resize(each, (width, height)) for each in small]


@pytest.fixture(scope="module")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("transformers")
    torchvision_shim.install()
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("models")
    makers: dict[str, Callable[[Path], Path]] = {
        "owlv2": tiny_text_models.owlv2,
        "grounding_dino": tiny_text_models.grounding_dino,
    }
    return {name: make(folder / name) for name, make in makers.items()}


def reference(folder: Path, images: list[BgrImage], prompts: list[str]) -> list[dict[str, Any]]:
    """What the library itself makes of pictures, one at a time."""
    import torch
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    found = []
    for image in images:
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        inputs = processor(images=[rgb], text=[prompts], return_tensors="pt")
        with torch.inference_mode():
            outputs = model(**inputs)
        found += processor.post_process_grounded_object_detection(
            outputs, threshold=0.3, target_sizes=[image.shape[:2]]
        )
    return found


def same(one: Box, other: Box) -> bool:
    here, there = ((b.x, b.y, b.width, b.height, 100 * b.score) for b in (one, other))
    return one.category == other.category and np.allclose(here, there, atol=0.03)


class TestText:
    @pytest.mark.parametrize("size", [(64, 64), (48, 80), (90, 60)])
    def test_owlv2_finds_what_the_library_finds(
        self, text_models: dict[str, Path], size: tuple[int, int]
    ) -> None:
        images = pictures(5, *size)
        with open_detector(text_models["owlv2"], SETTINGS) as detector:
            assert detector.names == PROMPTS
            ours = list(detector.predict([images[:3], images[3:]]))
        assert {box.category for boxes in ours for box in boxes} == {0, 1}
        for boxes, theirs in zip(
            ours, reference(text_models["owlv2"], images, PROMPTS), strict=True
        ):
            rows = zip(theirs["boxes"], theirs["scores"], theirs["labels"], strict=True)
            made = [
                Box.from_corners(corners.tolist(), float(score), int(label), size[::-1])
                for corners, score, label in rows
            ]
            expected = distinct(box for box in made if box)
            assert len(boxes) == len(expected)
            assert all(any(same(box, other) for other in expected) for box in boxes)

    def test_grounding_dino_names_the_prompt_of_each_box(
        self, text_models: dict[str, Path]
    ) -> None:
        images = pictures(4, 48, 72)
        with open_detector(text_models["grounding_dino"], SETTINGS) as detector:
            ours = list(detector.predict([images]))
        assert {box.category for boxes in ours for box in boxes} == {0, 1}
        for boxes, theirs in zip(
            ours, reference(text_models["grounding_dino"], images, PROMPTS), strict=True
        ):
            for box in boxes:
                corners = (box.x, box.y, box.x + box.width, box.y + box.height)
                (position,) = [
                    position
                    for position, other in enumerate(theirs["boxes"].numpy())
                    if np.allclose(corners, other.clip(0, [72, 48, 72, 48]), atol=0.03)
                ]
                # theirs is the best of all tokens, full stops as well
                assert box.score <= float(theirs["scores"][position]) + 1e-3
                named = theirs["text_labels"][position].split()
                assert set(PROMPTS[box.category].lower().split()) & set(named)

    @pytest.mark.parametrize("name", ["owlv2", "grounding_dino"])
    def test_neighbours_change_nothing(self, text_models: dict[str, Path], name: str) -> None:
        images = pictures(4, 64, 64)
        with open_detector(text_models[name], SETTINGS) as detector:
            together = list(detector.predict([images]))
            alone = list(detector.predict([image] for image in images))
        assert sum(map(len, together)) > 4
        for one, other in zip(together, alone, strict=True):
            assert all(map(same, one, other)) and len(one) == len(other)

    def test_no_prompts(self, text_models: dict[str, Path]) -> None:
        without_prompts = SETTINGS.model_copy(update={"prompts": []})
        with (
            pytest.raises(ConfigError, match=r"detect\.prompts is empty.*Next: .*prompts"),
            open_detector(text_models["owlv2"], without_prompts),
        ):
            pass

    def test_more_prompts_than_the_model_reads(self, text_models: dict[str, Path]) -> None:
        long = SETTINGS.model_copy(update={"prompts": ["red disc"] * 30})
        with (
            pytest.raises(ConfigError, match=r"make \d+ tokens, and the model reads 32"),
            open_detector(text_models["grounding_dino"], long),
        ):
            pass

    def test_a_damaged_folder(self, text_models: dict[str, Path], tmp_path: Path) -> None:
        (tmp_path / "config.json").write_bytes((text_models["owlv2"] / "config.json").read_bytes())
        with pytest.raises(PermanentError, match="cannot load the model") as caught:
            open_detector(tmp_path, SETTINGS).__enter__()
        assert caught.value.error_class is ErrorClass.MODEL
        assert "\n" not in str(caught.value)

    def test_a_model_that_finds_no_boxes(
        self, text_models: dict[str, Path], tmp_path: Path
    ) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(PermanentError, match="is a bert model"):
            open_detector(tmp_path, SETTINGS).__enter__()

    def test_without_the_library(
        self, text_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(importlib.import_module("sys").modules, "transformers", None)
        with pytest.raises(ConfigError, match=r"make semantic.*--editable '\.\[semantic\]'"):
            open_detector(text_models["owlv2"], SETTINGS).__enter__()


def test_jobs_take_turns_at_the_gpus_that_they_see(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from dataminer.vision import device

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    taken = [str(device.choose(wanted, part)) for wanted in ("auto", "cuda") for part in (0, 1, 4)]
    assert taken == ["cuda:0", "cuda:1", "cuda:1"] * 2
    assert str(device.choose("cuda:2", 4)) == "cuda:2"
    assert str(device.choose("cpu", 4)) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert str(device.choose("auto", 4)) == "cuda"
    with pytest.raises(TransientError, match="cuda:1"):
        device.choose("cuda:1", 0)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make weights files out of the descriptions that ultralytics carries, without training."""
    folder = tmp_path_factory.mktemp("untrained")

    def make(description: str) -> Path:
        path = folder / f"{Path(description).stem}.pt"
        if not path.exists():
            import torch

            torchvision_shim.install()
            with quiet_ultralytics():
                from ultralytics import RTDETR, YOLO

                torch.manual_seed(0)
                (RTDETR if "rtdetr" in description else YOLO)(description).save(path)
        return path

    return make


@needs_ultralytics
class TestUltralytics:
    def test_finds_what_ultralytics_finds(self, shapes_weights: Path, tmp_path: Path) -> None:
        images = pictures(7, 120, 200)
        files = [tmp_path / f"{number}.png" for number in range(7)]
        for file, image in zip(files, images, strict=True):
            cv2.imwrite(str(file), image)
        (tmp_path / "list.txt").write_text("".join(f"{file}\n" for file in files))
        settings = DetectConfig(confidence=0.001, image_size=160, device="cpu")
        with open_detector(shapes_weights, settings) as detector:
            ours = list(detector.predict([images[:4], images[4:]]))
        with quiet_ultralytics():
            model = load_model(shapes_weights)
            options = {"conf": 0.001, "imgsz": 160, "nms": False, "verbose": False}
            listed = model.predict(str(tmp_path / "list.txt"), batch=4, stream=True, **options)
            theirs = [result.boxes.data.tolist() for result in listed]
        assert sum(map(len, ours)) > 7
        for boxes, rows in zip(ours, theirs, strict=True):
            made = (Box.from_corners(r[:4], r[4], int(r[5]), (200, 120)) for r in rows)
            assert boxes == distinct(box for box in made if box)

    @pytest.mark.parametrize("description", ["yolo11n.yaml", "yolov8n-rtdetr.yaml"])
    def test_families(self, untrained: Callable[[str], Path], description: str) -> None:
        settings = DetectConfig(confidence=0, image_size=64, device="cpu")
        with open_detector(untrained(description), settings) as detector:
            found = list(detector.predict([pictures(2, 64, 64)]))
            assert len(detector.names) == 80
        assert len(found) == 2 and all(found)
        assert all(0 <= box.category < 80 for boxes in found for box in boxes)

    def test_a_model_with_classes_takes_no_prompts(self, shapes_weights: Path) -> None:
        with pytest.raises(ConfigError, match="has classes of its own"):
            open_detector(shapes_weights, SETTINGS).__enter__()

    @pytest.mark.parametrize(
        ("description", "encoder"),
        [
            ("yolov8n-worldv2.yaml", "clip/ViT-B-32.pt"),
            ("yoloe-11n.yaml", "mobileclip_blt.ts"),
            ("yoloe-26n.yaml", "mobileclip2_b.ts"),
        ],
    )
    def test_prompts_ask_for_their_encoder_at_once(
        self,
        untrained: Callable[[str], Path],
        monkeypatch: pytest.MonkeyPatch,
        description: str,
        encoder: str,
    ) -> None:
        path = untrained(description)
        with pytest.raises(TransientError, match=r"reads prompts with CLIP.*pip install") as caught:
            open_detector(path, SETTINGS).__enter__()
        assert caught.value.error_class is ErrorClass.MISSING_TOOL
        real = find_spec
        from dataminer.vision.detectors import yolo

        monkeypatch.setattr(
            yolo, "find_spec", lambda name: real("json" if name == "clip" else name)
        )
        with pytest.raises(PermanentError, match=f"{encoder}, which is not in") as missing:
            open_detector(path, SETTINGS).__enter__()
        assert missing.value.error_class is ErrorClass.MODEL

    def test_prompts_that_a_file_was_saved_with_need_no_encoder(
        self, untrained: Callable[[str], Path]
    ) -> None:
        path = untrained("yolov8n-worldv2.yaml")
        with quiet_ultralytics():
            names = class_names(load_model(path))
        settings = DetectConfig(prompts=names, confidence=0, image_size=64, device="cpu")
        with open_detector(path, settings) as detector:
            assert detector.names == names
            assert len(list(detector.predict([pictures(1, 64, 64)]))) == 1

    @pytest.mark.filterwarnings("ignore:.torch.jit")  # deprecated
    def test_an_encoder_runs_only_if_it_is_trusted(
        self, untrained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        path = Path(shutil.copy(untrained("yoloe-11n.yaml"), tmp_path))
        encoder = torch.nn.EmbeddingBag(2, 512)
        torch.jit.save(torch.jit.script(encoder), tmp_path / "mobileclip_blt.ts")
        clip: Any = ModuleType("clip")
        clip.__spec__ = importlib.machinery.ModuleSpec("clip", None)
        clip.clip = SimpleNamespace(tokenize=lambda texts, **_: torch.ones(len(texts), 77).int())
        monkeypatch.setitem(sys.modules, "clip", clip)
        with quiet_ultralytics():
            monkeypatch.setattr(importlib.import_module("ultralytics.nn.text_model"), "clip", clip)

        def settings(*trusted: str) -> DetectConfig:
            how = {"confidence": 0, "image_size": 64, "device": "cpu"}
            return DetectConfig(prompts=PROMPTS, trusted_programs=list(trusted), **how)

        with pytest.raises(PermanentError, match="TorchScript file, which is a program") as caught:
            open_detector(path, settings()).__enter__()
        trusted = settings(caught.value.hint.partition("[")[2].partition("]")[0])
        with open_detector(path, trusted) as detector:
            assert detector.names == PROMPTS
            (found,) = detector.predict([pictures(1, 64, 64)])
        assert {box.category for box in found} == {0, 1}

        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")  # where ultralytics looks first
        torch.jit.save(torch.jit.script(torch.nn.Identity()), "mobileclip_blt.ts")
        with pytest.raises(PermanentError, match="TorchScript file, which is a program"):
            open_detector(path, trusted).__enter__()

    @pytest.mark.parametrize("encoder", ["clip:/some/program.bin", "foo:bar", None, []])
    def test_an_encoder_that_nobody_knows(
        self,
        encoder: Any,
        untrained: Callable[[str], Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import torch

        monkeypatch.setitem(sys.modules, "clip", ModuleType("clip"))
        sys.modules["clip"].__spec__ = importlib.machinery.ModuleSpec("clip", None)
        with quiet_ultralytics():
            model = load_model(untrained("yoloe-11n.yaml")).model
            model.text_model = encoder
            torch.save({"model": model}, tmp_path / "yoloe.pt")
        (tmp_path / "clip").mkdir()
        (tmp_path / "clip" / "ViT-B-32.pt").touch()
        with pytest.raises(PermanentError, match="which is no known encoder") as caught:
            open_detector(tmp_path / "yoloe.pt", SETTINGS).__enter__()
        assert caught.value.error_class is ErrorClass.MODEL

    def test_a_class_beyond_those_that_are_named(
        self, untrained: Callable[[str], Path], tmp_path: Path
    ) -> None:
        import torch

        with quiet_ultralytics():
            model = load_model(untrained("yolov8n-rtdetr.yaml")).model
            model.names = {0: "thing"}
            torch.save({"model": model}, tmp_path / "odd.pt")
        settings = DetectConfig(confidence=0, image_size=64, device="cpu")
        with (
            open_detector(tmp_path / "odd.pt", settings) as detector,
            pytest.raises(PermanentError, match=r"finds class \d+, and its file names 1"),
        ):
            list(detector.predict([pictures(1, 64, 64)]))

    def test_the_encoders_can_be_fetched(self) -> None:
        for name in ("mobileclip_blt.ts", "mobileclip2_b.ts"):
            assert weights.to_fetch(name, Path("m")) == Path("m") / name
