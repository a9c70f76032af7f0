"""The paths of everything in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataminer.files.links import is_folder, lstat_or_none, register_store
from dataminer.files.reading import list_names

INFO_FILE = "info.json"
ANNOTATIONS_FILE = "annotations.json"
DATA_FILE = "data.yaml"  # YOLO's
SHEET_FILE = "contact_sheet.jpg"


@dataclass(frozen=True)
class Store:
    """The folder layout of a store.

    Parameters
    ----------
    root : Path
        The store's path as in the configuration; a relative path stays relative.
    """

    root: Path

    def __post_init__(self) -> None:
        register_store(self.root, projects=self.project("x").parent.name)

    def video(self, video_id: str) -> Path:
        """Return the folder of the downloaded file and its ``info.json``."""
        return self.root.joinpath("videos", video_id)

    def frames(self, video_id: str) -> Path:
        """Return the folder of all frames of a video, with one folder per recipe."""
        return self.root.joinpath("frames", video_id)

    def recipe(self, video_id: str, recipe: str) -> Path:
        """Return the folder of the frames that one recipe made of a video."""
        return self.root.joinpath("frames", video_id, recipe)

    def embeddings(self, model_key: str, video_id: str, recipe: str) -> Path:
        """Return the file of a model's embeddings of the frames of one recipe."""
        return self.root / "embeddings" / model_key / video_id / f"{recipe}.parquet"

    def content(self, model_key: str, video_id: str, recipe: str) -> Path:
        """Return the file of the objects that a model found in the frames of one recipe."""
        return self.root / "content" / model_key / video_id / f"{recipe}.parquet"

    def text(self, model_key: str, video_id: str, recipe: str) -> Path:
        """Return the file of the text that a model found in the frames of one recipe."""
        return self.root / "text" / model_key / video_id / f"{recipe}.parquet"

    def prompts(self, model_key: str, digest: str) -> Path:
        """Return the file of a model's embeddings of prompts."""
        return self.root / "prompts" / model_key / f"{digest}.parquet"

    @property
    def references(self) -> Path:
        """The folder of the hashes of the pictures that ``dedup.exclude`` names."""
        return self.root / "references"

    def of_models(self) -> list[Path]:
        """Return the existing folders of model outputs for frames, one per model."""
        kinds = ("embeddings", "content", "text")
        tops = (self.root / kind for kind in kinds)
        return sorted(
            top / name for top in tops for name in list_names(top) if is_folder(top / name)
        )

    def seen(self, video_id: str) -> list[Path]:
        """Return the paths of model outputs for a video: folders, and files of older runs."""
        found = (folder / name for folder in self.of_models() for name in _seen(video_id))
        return [path for path in found if lstat_or_none(path)]

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
        """Return the folder of boxes for the next run of detect."""
        return self.project(project) / "detect_shards"

    def report(self, project: str) -> Path:
        """Return the folder of a project's report."""
        return self.project(project) / "report"

    def outputs(self, project: str) -> tuple[Path, ...]:
        """Return the folders of a project's outputs that Snakemake tracks."""
        folders = (self.dedup, self.detect_shards, self.detect, self.report)
        return tuple(folder(project) for folder in folders)


def _seen(video_id: str) -> tuple[str, str]:
    return video_id, f"{video_id}.parquet"
