"""Where everything lies under the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

INFO_FILE = "info.json"
ANNOTATIONS_FILE = "annotations.json"
DATA_FILE = "data.yaml"  # YOLO's


@dataclass(frozen=True)
class Store:
    """The folder layout of a store.

    Parameters
    ----------
    root : Path
        The store itself, as the configuration names it; relative stays relative.
    """

    root: Path

    def video(self, video_id: str) -> Path:
        """Return the folder of the downloaded file and its ``info.json``."""
        return self.root.joinpath("videos", video_id)

    def frames(self, video_id: str) -> Path:
        """Return the folder of a video's frames."""
        return self.root.joinpath("frames", video_id)

    def embeddings(self, model_key: str, video_id: str) -> Path:
        """Return the file of a model's embeddings of a video's frames."""
        return self.root / "embeddings" / model_key / f"{video_id}.parquet"

    def content(self, model_key: str, video_id: str) -> Path:
        """Return the file of the objects that a model found in a video's frames."""
        return self.root / "content" / model_key / f"{video_id}.parquet"

    def prompts(self, model_key: str, digest: str) -> Path:
        """Return the file of a model's embeddings of prompts."""
        return self.root / "prompts" / model_key / f"{digest}.parquet"

    def of_models(self) -> list[Path]:
        """Return the folders of what models saw in frames, one a model, that are there."""
        kinds = ("embeddings", "content")
        return sorted(path for kind in kinds for path in self.root.glob(f"{kind}/*/"))

    def seen(self, video_id: str) -> list[Path]:
        """Return the files of what models saw in a video's frames that are there."""
        files = (folder / f"{video_id}.parquet" for folder in self.of_models())
        return [path for path in files if path.is_file()]

    def project(self, project: str) -> Path:
        """Return the folder of a project."""
        return self.root / "projects" / project

    def filtered(self, project: str, video_id: str) -> Path:
        """Return the folder of a video's frames that passed the project's filter."""
        return self.root.joinpath("projects", project, "filtered", video_id)

    def dedup(self, project: str) -> Path:
        """Return the folder of a project's unique frames."""
        return self.project(project) / "dedup"

    def detect(self, project: str) -> Path:
        """Return the folder of a project's annotations."""
        return self.project(project) / "detect"

    def detect_shards(self, project: str) -> Path:
        """Return the folder of boxes that are kept for the next run of detect."""
        return self.project(project) / "detect_shards"

    def report(self, project: str) -> Path:
        """Return the folder of a project's pictures and tables for people."""
        return self.project(project) / "report"
