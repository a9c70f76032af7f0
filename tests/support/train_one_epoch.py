"""Train a tiny detector for one epoch on a data.yaml.

``python -m tests.support.train_one_epoch YAML OUT``

A process of its own, since what it imports would change what other tests see.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from dataminer.vision.weights import quiet_ultralytics
from demo.detector import MODEL
from tests.support import torchvision_shim


def main(data: Path, out: Path) -> None:
    (out / "tiny.yaml").write_text(yaml.safe_dump(MODEL))
    with quiet_ultralytics():
        torchvision_shim.install()
        from ultralytics import YOLO

        model = YOLO(str(out / "tiny.yaml"))
        model.train(
            data=str(data),
            epochs=1,
            imgsz=64,
            batch=4,
            workers=0,
            amp=False,
            plots=False,
            device="cpu",
            project=str(out),
            name="run",
        )
    trained = model.trainer.train_loader.dataset, model.trainer.test_loader.dataset
    print(json.dumps([sorted(Path(file).name for file in each.im_files) for each in trained]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
