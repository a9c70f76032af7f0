"""Draw the README's contact sheet: the demo's frames over photographs in the public domain."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from dataminer.formats.contact_sheet import contact_sheet

DETECT = Path("data/projects/demo/detect")
# launch: NASA's and SpaceX's own, as scikit-image carries them
CLIP = "launch-"

if __name__ == "__main__":
    coco = json.loads((DETECT / "annotations.json").read_text())
    coco["images"] = [image for image in coco["images"] if image["video_id"].startswith(CLIP)]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [box for box in coco["annotations"] if box["image_id"] in kept]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "annotations.json").write_text(json.dumps(coco))
        (Path(folder) / "images").symlink_to((DETECT / "images").absolute())
        contact_sheet(Path(folder), Path("docs/contact_sheet.jpg"))
