"""Weights that would run code, in every shape in which they come: they do not."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
from collections import OrderedDict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from dataminer.config.models import DetectConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.files.hashing import sha256_file
from dataminer.frames.boxes import Box
from dataminer.vision import checkpoint, safe_loading
from dataminer.vision.detectors import distinct, open_detector
from dataminer.vision.weights import load_model, quiet_ultralytics
from tests.support import tiny_text_models, torchvision_shim

needs_ultralytics = pytest.mark.skipif(find_spec("ultralytics") is None, reason="no ultralytics")
needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="no transformers")


class Payload:
    """Touches a file as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _zipped(payload: Any, path: Path) -> None:
    import torch

    torch.save({"model": payload}, path)


def _nested(payload: Any, path: Path) -> None:
    import torch

    torch.save({"train_args": {"data": [{"a": payload}]}, "model": torch.nn.Identity()}, path)


def _in_a_module(payload: Any, path: Path) -> None:
    import torch

    module = torch.nn.Identity()
    module._forward_hooks[0] = payload
    torch.save({"model": module}, path)


def _legacy(payload: Any, path: Path) -> None:
    import torch

    torch.save({"model": payload}, path, _use_new_zipfile_serialization=False)


def _bare(payload: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(payload))


def _run(path: Path) -> None:
    import torch

    try:
        torch.load(path, weights_only=False)
    except RuntimeError:
        pickle.loads(path.read_bytes())


SHAPES = [_zipped, _nested, _in_a_module, _legacy, _bare]


def refused(path: Path, words: str) -> PermanentError:
    with quiet_ultralytics(), pytest.raises(PermanentError, match=words) as caught:
        load_model(path)
    assert caught.value.error_class is ErrorClass.MODEL
    assert "\n" not in str(caught.value)
    return caught.value


def _hook(model: Any) -> Any:
    from ultralytics.nn.tasks import YOLOEModel

    layer = next(layer for layer in model.model if hasattr(layer, "cv1"))
    layer.text_model, layer.__dict__["model"] = "clip:/some/program", layer.cv1
    layer._forward_pre_hooks[0] = YOLOEModel.get_text_pe
    return layer


def _forward(model: Any) -> None:
    import torch

    model.model[2].__dict__["forward"] = torch.nn.Identity()


def _function(model: Any) -> None:
    from ultralytics.nn.tasks import YOLOEModel

    model.some = [YOLOEModel.get_text_pe]


def _class(model: Any) -> None:
    model.some = {"a": type(model)}


def _tensor_method(model: Any) -> None:
    import torch

    next(model.parameters()).__dict__["type_as"] = torch.nn.Identity()


def _dict_method(model: Any) -> None:
    import torch

    modules = OrderedDict(model.model[2]._modules)
    modules.__dict__["values"] = torch.nn.Identity()
    model.model[2].__dict__["_modules"] = modules


def _member(model: Any) -> None:
    model.model[2]._modules["some"] = {"a": 1}


class _Reduced:
    """Unpickled by these steps."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        return self.steps


def _called_by_torch(model: Any) -> Any:
    import torch
    from torch._tensor import _rebuild_from_type_v2

    return _Reduced(_rebuild_from_type_v2, (_hook(model), torch.Tensor, (1,), None))


def _called_by_state(model: Any) -> Any:
    """Set a module's state a second time, by what the first one brought."""
    import torch

    module = torch.nn.Identity()
    module.__dict__["__setstate__"] = _hook(model)
    same = (module, torch.float32, "cpu", False)  # gives the module back, to be built once more
    return _Reduced(torch._utils._rebuild_device_tensor_from_cpu_tensor, same, {"some": 1})


def _fused(model: Any) -> None:
    model.fuse(verbose=False)


def _old(model: Any) -> None:
    """As models of 2023: with the function that drew boxes, their loss, and settings."""
    from ultralytics.nn.modules.head import Detect
    from ultralytics.utils import DEFAULT_CFG

    model.model[-1].detect = Detect.forward
    model.args = DEFAULT_CFG
    model.criterion = model.init_criterion()


@needs_ultralytics
class TestUltralytics:
    @pytest.mark.parametrize("write", SHAPES)
    @pytest.mark.parametrize("flag", ["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
    def test_a_payload_does_not_run(
        self,
        write: Callable[[Any, Path], None],
        flag: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if flag:
            monkeypatch.setenv(flag, "1")
        write(Payload(tmp_path / "ran"), tmp_path / "evil.pt")
        error = refused(tmp_path / "evil.pt", r"cannot load the weights .*evil\.pt: the file")
        assert "YOLO(FILE).save(NEW)" in error.hint
        assert not (tmp_path / "ran").exists()
        _run(tmp_path / "evil.pt")  # the payload is one
        assert (tmp_path / "ran").exists()

    def test_versions_that_cannot_load_data_load_nothing(
        self, tmp_path: Path, shapes_weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with quiet_ultralytics():
            from ultralytics.nn import tasks

            # as with a torch before 2.6: ultralytics would go on with pickle
            monkeypatch.setattr(tasks._SafeLoad, "SUPPORTED", False)
            with pytest.raises(TransientError, match="without running code") as caught:
                load_model(shapes_weights)
            monkeypatch.undo()
            # as with a torch that names otherwise what calls whatever it is given
            monkeypatch.setattr(safe_loading, "_REBUILDS", "torch._tensor._rebuild_from_type_v3")
            with pytest.raises(TransientError, match="without running code"):
                load_model(shapes_weights)
            monkeypatch.undo()
            # as with an ultralytics that has no restricted loading
            monkeypatch.delattr(tasks, "SAFE_LOAD")
            with pytest.raises(TransientError, match="without running code"):
                load_model(shapes_weights)
        assert caught.value.error_class is ErrorClass.MISSING_TOOL

    def test_torch_itself_reads_data_only(self, tmp_path: Path) -> None:
        import torch

        _zipped(Payload(tmp_path / "ran"), tmp_path / "evil.pt")
        with quiet_ultralytics(), pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "evil.pt", weights_only=False)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.filterwarnings("ignore:.torch.jit")  # deprecated
    def test_a_program_is_no_weights_file(self, tmp_path: Path) -> None:
        import torch

        torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / "program.pt")
        refused(tmp_path / "program.pt", "TorchScript archive, which is a program")

    def test_no_module_is_constructed(self, tmp_path: Path) -> None:
        import torch

        class Constructs:
            def __reduce__(self) -> tuple[Any, ...]:
                from ultralytics.nn.tasks import DetectionModel

                return DetectionModel, ("https://127.0.0.1:9/model.yaml",)

        with quiet_ultralytics():
            torch.save({"model": Constructs()}, tmp_path / "evil.pt")
        refused(tmp_path / "evil.pt", "would construct a DetectionModel")

    @pytest.mark.parametrize("suffix", ["onnx", "pth", "yaml", "ts", "engine"])
    def test_other_files_are_not_even_opened(self, suffix: str, tmp_path: Path) -> None:
        (tmp_path / f"model.{suffix}").touch()
        refused(tmp_path / f"model.{suffix}", r"is not a \.pt weights file")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (_hook, "brings a '_forward_pre_hooks' of its own for a"),
            (_forward, "brings a 'forward' of its own for a"),
            (_function, "holds more than data: _Attribute"),
            (_class, "holds more than data: type"),
            (_tensor_method, "brings a 'type_as' of its own for a Parameter"),
            (_dict_method, "brings a 'values' of its own for a OrderedDict"),
            (_member, "brings a '_modules' of its own for a"),
            (_called_by_torch, "references types outside the supported"),
            (_called_by_state, "would call a"),
        ],
    )
    def test_nothing_is_called(
        self,
        change: Callable[[Any], Any],
        words: str,
        shapes_weights: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import torch

        monkeypatch.setitem(sys.modules, "clip", ModuleType("clip"))
        with quiet_ultralytics():
            from ultralytics.nn import text_model

            called: list[str] = []
            build = "build_text_model"
            monkeypatch.setattr(text_model, build, lambda name, **_: called.append(name))
            model = load_model(shapes_weights).model
            torch.save({"model": model, "extra": change(model)}, tmp_path / "evil.pt")
        refused(tmp_path / "evil.pt", words)
        assert not called

    def test_what_was_loaded_builds_no_models_from_text(
        self, shapes_weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with quiet_ultralytics():
            from ultralytics.nn import tasks

            # as if ultralytics had been imported before
            monkeypatch.setattr(tasks, "SAFE_LOAD", False)
            load_model(shapes_weights)
            layers = {"backbone": [[-1, 1, "Conv", [8]]], "head": []}
            yaml = {"activation": "print(1)", "nc": 1, **layers}
            with pytest.raises(TypeError, match="unsupported activation"):
                tasks.DetectionModel(yaml, verbose=False)

    def test_a_file_lets_no_other_be_loaded(self, shapes_weights: Path) -> None:
        import torch

        before = set(torch.serialization.get_safe_globals())
        with quiet_ultralytics():
            load_model(shapes_weights)
        assert set(torch.serialization.get_safe_globals()) == before

    @pytest.mark.parametrize("write", [_fused, _old])
    def test_what_ultralytics_writes_finds_the_same(
        self, write: Callable[[Any], None], shapes_weights: Path, tmp_path: Path
    ) -> None:
        import torch

        torchvision_shim.install()
        small = np.random.default_rng(7).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        picture = cv2.resize(small, (160, 120)).astype(np.uint8, copy=False)
        with quiet_ultralytics():
            model = load_model(shapes_weights)
            write(model.model)
            settings = {"train_args": {"data": tmp_path}}
            torch.save({"model": model.model, **settings}, tmp_path / "other.pt")
            options = {"conf": 0.001, "imgsz": 160, "nms": False, "verbose": False}
            rows = model.predict(picture, **options)[0].boxes.data.tolist()
        expected = (Box.from_corners(r[:4], r[4], int(r[5]), (160, 120)) for r in rows)
        with open_detector(
            tmp_path / "other.pt", DetectConfig(confidence=0.001, image_size=160, device="cpu")
        ) as detector:
            (found,) = detector.predict([[picture]])
        assert found and found == distinct(box for box in expected if box)

    @pytest.mark.parametrize(
        "names",
        [None, 5, "abc", {}, {"x": "a"}, {-1: "a"}, {0: "a", 3: "b"}, {0: "a" * 201}],
    )
    def test_odd_names(self, names: Any, shapes_weights: Path, tmp_path: Path) -> None:
        import torch

        with quiet_ultralytics():
            model = load_model(shapes_weights).model
            model.names = names
            torch.save({"model": model}, tmp_path / "odd.pt")
        refused(tmp_path / "odd.pt", "classes are not named 0, 1, 2, … in at most 200 letters")

    def test_a_task_that_the_model_was_not_made_for(
        self, shapes_weights: Path, tmp_path: Path
    ) -> None:
        import torch

        with quiet_ultralytics():
            model = load_model(shapes_weights).model
            model.task = "pose"
            torch.save({"model": model}, tmp_path / "odd.pt")
        refused(tmp_path / "odd.pt", "a DetectionModel is no model to pose")

    @pytest.mark.filterwarnings("ignore:.torch.jit")  # deprecated
    def test_a_program_runs_only_if_it_is_trusted(self, tmp_path: Path) -> None:
        import torch

        program = tmp_path / "program.bin"
        torch.jit.save(torch.jit.script(torch.nn.Identity()), program)
        with (
            pytest.raises(PermanentError, match="TorchScript file, which is a program") as caught,
            safe_loading.trusted_programs_only([]),
        ):
            torch.jit.load(program)
        assert caught.value.error_class is ErrorClass.MODEL
        digest = caught.value.hint.partition("[")[2].partition("]")[0]
        assert digest == sha256_file(program)
        with safe_loading.trusted_programs_only([digest]):
            assert torch.jit.load(str(program))(torch.ones(1)) == 1
            with program.open("rb") as file:
                assert torch.jit.load(file)(torch.ones(1)) == 1
            torch.jit.save(torch.jit.script(torch.nn.ReLU()), program)
            with pytest.raises(PermanentError), program.open("rb") as file:
                torch.jit.load(file)


CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import PreTrainedConfig as Custom
"""


def _with_code(folder: Path, model_type: str) -> Path:
    """Have a model's folder bring code for all that is loaded from it."""
    (folder / "custom.py").write_text(CODE.format(marker=str(folder / "ran")))
    autos = ["AutoConfig", "AutoModel", "AutoProcessor", "AutoModelForZeroShotObjectDetection"]
    custom: dict[str, Any] = dict.fromkeys(autos, "custom.Custom")
    custom |= {"AutoImageProcessor": "custom.Custom", "AutoTokenizer": ["custom.Custom", None]}
    for file in folder.glob("*config.json"):
        found = json.loads(file.read_text())
        kind = {"model_type": model_type} if file.name == "config.json" else {}
        file.write_text(json.dumps({**found, **kind, "auto_map": custom}))
    return folder


@needs_transformers
class TestFolders:
    @pytest.mark.parametrize("model_type", ["custom", "owlv2"])
    def test_code_of_a_detector_does_not_run(
        self, model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torchvision_shim.install()
        folder = _with_code(tiny_text_models.owlv2(tmp_path / "model"), model_type)
        self._answer_yes(monkeypatch)
        settings = DetectConfig(prompts=["a red disc"], device="cpu")
        if model_type == "custom":
            with pytest.raises(PermanentError, match="cannot load the model"):
                open_detector(folder, settings).__enter__()
        else:  # the library's own classes are taken
            open_detector(folder, settings).__enter__()
        assert not (folder / "ran").exists()

    @pytest.mark.parametrize("model_type", ["custom", "siglip"])
    def test_code_of_a_checkpoint_does_not_run(
        self, model_type: str, tiny_siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = _with_code(Path(shutil.copytree(tiny_siglip, tmp_path / "model")), model_type)
        self._answer_yes(monkeypatch)
        if model_type == "custom":
            with pytest.raises(PermanentError, match="cannot load the checkpoint"):
                checkpoint.load_vision(folder, "cpu")
        else:
            checkpoint.load_vision(folder, "cpu")
            checkpoint.encode_texts(folder, ["red"])
        assert not (folder / "ran").exists()

    @staticmethod
    def _answer_yes(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 10))

    def test_pickled_weights_of_a_folder_are_not_read(
        self, tiny_siglip: Path, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(tiny_siglip, tmp_path / "model"))
        (folder / "model.safetensors").unlink()
        _zipped(Payload(tmp_path / "ran"), folder / "pytorch_model.bin")
        with pytest.raises(PermanentError, match="cannot load the checkpoint"):
            checkpoint.load_vision(folder, "cpu")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        "kernel",
        [
            {"attn_implementation": "someone/attention"},
            {"attn_implementation": {"": "someone/attention"}},
            {"attn_implementation": {"vision_config": "a/b@main"}},
            # is the hub's flash-attn2 where flash_attn is not installed
            {"_attn_implementation": "flash_attention_2"},
            {"attribute_map": {"other": "_attn_implementation"}, "other": "flash_attention_2"},
        ],
    )
    def test_kernels_of_the_hub_are_not_fetched(
        self, kernel: Any, tiny_siglip: Path, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(tiny_siglip, tmp_path / "model"))
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"] |= kernel
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(PermanentError, match="names a program of the hub"):
            checkpoint.load_vision(folder, "cpu")
