"""Weights that would run code, in every shape in which they come: they do not."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataminer.config.models import DetectConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.stages import checkpoint
from dataminer.stages.detectors import opened, yolo
from dataminer.stages.weights import load_model, quiet_ultralytics
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

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
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

    def test_a_text_encoder_runs_only_if_it_is_trusted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class YOLOE:
            model = SimpleNamespace(text_model="mobileclip:blt")

        def find(*trusted: str) -> None:
            settings = DetectConfig(trusted_programs=list(trusted))
            yolo._find_text_encoder(YOLOE(), tmp_path / "yoloe.pt", settings)

        monkeypatch.setattr(yolo, "find_spec", lambda name: find_spec("json"))
        (tmp_path / "mobileclip_blt.ts").write_bytes(b"a program")
        with (
            quiet_ultralytics(),
            pytest.raises(PermanentError, match="TorchScript file, which is a program") as caught,
        ):
            find()
        digest = caught.value.hint.partition("[")[2].partition("]")[0]
        with quiet_ultralytics():
            find(digest)
        (tmp_path / "mobileclip_blt.ts").write_bytes(b"another")
        with pytest.raises(PermanentError):
            find(digest)


CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import PreTrainedConfig as Custom
"""


def _with_code(folder: Path, model_type: str) -> Path:
    """Have a model's folder bring code for all that is loaded from it."""
    (folder / "custom.py").write_text(CODE.format(marker=str(folder / "ran")))
    autos = ["AutoConfig", "AutoModel", "AutoProcessor", "AutoModelForZeroShotObjectDetection"]
    custom = dict.fromkeys(autos, "custom.Custom")
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
                opened(folder, settings).__enter__()
        else:  # the library's own classes are taken
            opened(folder, settings).__enter__()
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
