"""The models that one configuration runs on frames, and the files that they read and write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataminer.config.models import Config, FilterConfig
from dataminer.errors import ErrorClass, TransientError
from dataminer.files.hashing import fingerprint
from dataminer.frames.embeddings import model_key
from dataminer.frames.table import read_model_output_meta
from dataminer.stages.embed.pending import (
    PendingVideo,
    changed,
    is_up_to_date,
    pending_video,
    read_fingerprint,
)
from dataminer.store.layout import Store
from dataminer.vision.hub import CONFIG_FILE, MODELS_FOLDER
from dataminer.vision.weights import weights_path

if TYPE_CHECKING:
    from dataminer.stages.filter.scores import FrameScores

_READS_AT_ONCE = 32  # on a network file system a read is mostly waiting
_Progress = Callable[[str], None]
_File = Callable[[str, str], Path]
_Folders = Mapping[str, Collection[Path]]


@dataclass(frozen=True)
class FrameModels:
    """The models of a configuration, and the files of their outputs.

    Parameters
    ----------
    store : Store
        The store.
    settings : FilterConfig
        The models, their prompts and their classes.
    compares : bool
        Whether dedup compares embeddings, which are then made even without prompts.
    models : Path
        The folder of fetched models.
    """

    store: Store
    settings: FilterConfig
    compares: bool = False
    models: Path = MODELS_FOLDER

    @classmethod
    def of(cls, config: Config) -> FrameModels:
        """Return the models of a configuration."""
        compares = config.dedup.method == "embedding"
        return cls(Store(config.store_path), config.filter, compares)

    @property
    def embeds(self) -> bool:
        """Whether frames are embedded."""
        return self.compares or self.settings.semantic.on

    @property
    def on(self) -> bool:
        """Whether any model runs on frames."""
        return self.embeds or self.settings.content.on

    @property
    def on_gpu(self) -> bool:
        """Whether a model in use is set to run on a CUDA GPU."""
        semantic = self.embeds and self.settings.semantic.device.startswith("cuda")
        content = self.settings.content.on and self.settings.content.device.startswith("cuda")
        return semantic or content

    @property
    def checkpoint(self) -> Path:
        """The folder of the semantic filter's model, which may not exist yet."""
        from dataminer.vision.checkpoint import checkpoint_path

        return checkpoint_path(self.settings.semantic.model, self.models)

    @property
    def prompts(self) -> Path:
        """The file of the prompts' embeddings."""
        return self.store.prompts(self.key, fingerprint(sorted(self.settings.semantic.prompts.all)))

    @property
    def key(self) -> str:
        """The key of the semantic filter's model in the paths of embeddings."""
        return model_key(self.settings.semantic.model)

    def embeddings(self, video_id: str, recipe: str) -> Path:
        """Return the file of the embeddings of a video's frames of one recipe."""
        return self.store.embeddings(self.key, video_id, recipe)

    def embedded(self, video_id: str, recipe: str) -> Path:
        """Return the file of embeddings; that of an older version lies beside the folder."""
        path = self.embeddings(video_id, recipe)
        older = path.parent.with_name(f"{video_id}{path.suffix}")
        return older if older.is_file() and not path.exists() else path

    def boxes(self, video_id: str, recipe: str) -> Path:
        """Return the file of the objects in a video's frames of one recipe."""
        content = self.settings.content
        key = model_key(content.model, content.image_size)
        return self.store.content(key, video_id, recipe)

    def model_fingerprints(self, video_id: str, recipe: str) -> list[str | None]:
        """Return the fingerprints of the outputs that the filter reads; None for an absent one."""
        semantic = [self.embeddings(video_id, recipe)] if self.settings.semantic.on else []
        content = [self.boxes(video_id, recipe)] if self.settings.content.on else []
        return [read_fingerprint(path) for path in (*semantic, *content)]

    def outdated_videos(self, frames: Mapping[str, Collection[str]]) -> list[str]:
        """Return the videos for whose present frames the output of a model in use is missing.

        Output that is older than the model's file is that of another model.

        Parameters
        ----------
        frames : mapping of str to collection of str
            The recipes of the frames of each video that are chosen from.
        """
        models: list[tuple[str, _File, float | None]] = []
        if self.embeds:
            models.append(("embed", self.embeddings, changed(self.checkpoint / CONFIG_FILE)))
        if self.settings.content.on:
            weights = weights_path(self.settings.content.model, self.models)
            models.append(("content", self.boxes, changed(weights)))

        def is_done(video_id: str) -> bool:
            return all(
                is_up_to_date(stage, path(video_id, recipe), recipe, since)
                for stage, path, since in models
                for recipe in frames[video_id]
            )

        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            done = zip(frames, pool.map(is_done, frames), strict=True)
            return [video_id for video_id, is_complete in done if not is_complete]

    def batches(self, videos: Sequence[str]) -> list[tuple[str, ...]]:
        """Divide videos into batches for one process each, which loads each model once."""
        size = self.settings.videos_per_job
        return [tuple(videos[start : start + size]) for start in range(0, len(videos), size)]

    def run_models(self, frames: _Folders, threads: int, progress: _Progress) -> dict[str, int]:
        """Run each model in use on the videos of a batch that lack its output.

        Each model is loaded once, or not at all if every output is up to date. Videos that failed
        are skipped.

        Parameters
        ----------
        frames : mapping of str to collection of Path
            The folders of the frames of each video of the batch.
        threads : int
            For reading and decoding images ahead of a model.
        progress : callable
            Gets a message now and then.

        Returns
        -------
        dict of str to int
            The number of videos that each model processed.
        """
        processed = {}
        if self.embeds:
            processed["semantic"] = self._embed(frames, threads, progress)
        if self.settings.content.on:
            processed["content"] = self._find_boxes(frames, threads, progress)
        loads = sum(1 for count in processed.values() if count)
        counts = ", ".join(f"{count} by {name}" for name, count in processed.items())
        progress(f"model loads: {loads} for {len(frames)} videos ({counts})")
        return processed

    def _embed(self, frames: _Folders, threads: int, progress: _Progress) -> int:
        from dataminer.stages.embed.semantic import embed

        videos = self._videos(frames, self.embeddings)
        return embed(
            videos, self.settings.semantic, self.checkpoint, threads=threads, progress=progress
        )

    def _find_boxes(self, frames: _Folders, threads: int, progress: _Progress) -> int:
        from dataminer.stages.embed.content import find_boxes

        content = self.settings.content
        weights = weights_path(content.model, self.models)
        videos = self._videos(frames, self.boxes)
        return find_boxes(videos, content, weights, threads=threads, progress=progress)

    def _videos(self, frames: _Folders, out: _File) -> list[PendingVideo]:
        pairs = ((v, folder) for v, folders in frames.items() for folder in folders)
        videos = [pending_video(v, folder, out(v, folder.name)) for v, folder in pairs]
        return [video for video in videos if video]

    def frame_scores(self, video_id: str, source: Mapping[str, Any]) -> list[FrameScores]:
        """Score a video's frames by the stored outputs of the models, without any model.

        Parameters
        ----------
        video_id : str
            The video.
        source : Mapping
            The metadata of its frame table; a video that failed has no scores.

        Raises
        ------
        DamagedFile
            The output of a model, or the file of the prompts' embeddings, cannot be read.
        TransientError
            The models have not processed these frames yet.
        """
        if "failure" in source:
            return []
        scores: list[FrameScores] = []
        recipe = str(source.get("fingerprint"))
        if self.settings.semantic.on:
            scores.append(self._semantic_scores(video_id, recipe))
        if self.settings.content.on:
            scores.append(self._content_scores(video_id, recipe))
        return scores

    def _semantic_scores(self, video_id: str, recipe: str) -> FrameScores:
        from dataminer.stages.embed import semantic

        _require(self.prompts, video_id)
        prompts = semantic.read_prompts(self.prompts, self.settings.semantic.prompts)
        path = self.embeddings(video_id, recipe)
        video = PendingVideo(video_id, self.store.recipe(video_id, recipe), path, recipe)
        expected = video.output_fingerprint("embed", prompts.model)
        _require(path, video_id, expected)
        return semantic.score_embeddings(path, prompts, self.settings.semantic)

    def _content_scores(self, video_id: str, recipe: str) -> FrameScores:
        from dataminer.stages.embed import content

        path = self.boxes(video_id, recipe)
        _require(path, video_id)
        video = PendingVideo(video_id, self.store.recipe(video_id, recipe), path, recipe)
        model = str(read_model_output_meta(path).get("model"))
        _require(path, video_id, video.output_fingerprint("content", model))
        return content.score_boxes(path, self.settings.content)


def _require(path: Path, video_id: str, expected: str | None = None) -> None:
    """Refuse a model's output that is absent, or not the expected one."""
    found = read_fingerprint(path)
    if found is None or (expected and found != expected):
        raise TransientError(
            f"the models of filter.semantic and filter.content have not processed the present"
            f" frames of video {video_id}",
            ErrorClass.INTERNAL,
            "run snakemake again: rule embed runs them",
        )
