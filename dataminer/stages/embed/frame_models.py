"""The models that one configuration runs on frames, and the files that they read and write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
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
    from dataminer.stages.embed.embedding import EmbeddingModel
    from dataminer.stages.filter.scores import FrameScores

_READS_AT_ONCE = 32  # on a network file system a read is mostly waiting
_MODEL_MB, _OTHER_MB = 3000, 3000  # memory of a model, and of libraries and decoded images
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
    compared : str or None
        The model whose embeddings dedup compares; None for that of the semantic filter.
    """

    store: Store
    settings: FilterConfig
    compares: bool = False
    models: Path = MODELS_FOLDER
    compared: str | None = None

    @classmethod
    def of(cls, config: Config) -> FrameModels:
        """Return the models of a configuration."""
        compares = config.dedup.method == "embedding"
        return cls(Store(config.store_path), config.filter, compares, compared=config.dedup.model)

    @property
    def embeds(self) -> bool:
        """Whether frames are embedded."""
        return self.compares or self.settings.semantic.on

    @cached_property
    def semantic_model(self) -> EmbeddingModel:
        """The semantic filter's model, whether or not it is in use."""
        from dataminer.stages.embed.embedding import EmbeddingModel
        from dataminer.vision.checkpoint import SEMANTIC_MODEL

        return EmbeddingModel(self.settings.semantic.model, SEMANTIC_MODEL, self.models)

    @cached_property
    def dedup_model(self) -> EmbeddingModel:
        """The model whose embeddings dedup compares: the semantic filter's if it is the same."""
        from dataminer.stages.embed.embedding import EmbeddingModel
        from dataminer.vision.checkpoint import DEDUP_MODEL, model_folder

        semantic = self.semantic_model
        name = self.compared or semantic.name
        folders = [model_folder(each, self.models).resolve() for each in (name, semantic.name)]
        if folders[0] == folders[1]:
            return semantic
        return EmbeddingModel(name, DEDUP_MODEL, self.models)

    @property
    def embedding_models(self) -> dict[str, EmbeddingModel]:
        """The models in use that embed frames, each once, by the name of what uses them first."""
        used = {"semantic": self.semantic_model} if self.settings.semantic.on else {}
        if self.compares and self.dedup_model not in used.values():
            name = "semantic" if self.dedup_model is self.semantic_model else "dedup"
            used[name] = self.dedup_model
        return used

    @property
    def memory_mb(self) -> int:
        """The memory that running the models needs; those that embed frames are loaded together."""
        return _OTHER_MB + _MODEL_MB * max(1, len(self.embedding_models))

    @property
    def on(self) -> bool:
        """Whether any model runs on frames."""
        return self.embeds or self.settings.content.on or self.settings.text.on

    @property
    def on_gpu(self) -> bool:
        """Whether a model in use is set to run on a CUDA GPU."""
        semantic = self.embeds and self.settings.semantic.device.startswith("cuda")
        content = self.settings.content.on and self.settings.content.device.startswith("cuda")
        return semantic or content

    @property
    def checkpoint(self) -> Path:
        """The folder of the semantic filter's model, which may not exist yet."""
        return self.semantic_model.checkpoint

    @property
    def prompts(self) -> Path:
        """The file of the prompts' embeddings."""
        return self.store.prompts(self.key, fingerprint(sorted(self.settings.semantic.prompts.all)))

    @property
    def key(self) -> str:
        """The key of the semantic filter's model in the paths of embeddings."""
        return self.semantic_model.key

    def embeddings(self, video_id: str, recipe: str, model: EmbeddingModel | None = None) -> Path:
        """Return the file of the embeddings of a video's frames of one recipe.

        They are the semantic filter's, unless another model is given.
        """
        return self.store.embeddings((model or self.semantic_model).key, video_id, recipe)

    def embedded(self, video_id: str, recipe: str) -> Path:
        """Return the file of what dedup compares; of an older version it lies beside the folder."""
        path = self.embeddings(video_id, recipe, self.dedup_model)
        older = path.parent.with_name(f"{video_id}{path.suffix}")
        return older if older.is_file() and not path.exists() else path

    def boxes(self, video_id: str, recipe: str) -> Path:
        """Return the file of the objects in a video's frames of one recipe."""
        content = self.settings.content
        key = model_key(content.model, content.image_size)
        return self.store.content(key, video_id, recipe)

    def text(self, video_id: str, recipe: str) -> Path:
        """Return the file of the text in a video's frames of one recipe."""
        key = model_key("rapidocr", self.settings.text.image_size)
        return self.store.text(key, video_id, recipe)

    def model_fingerprints(self, video_id: str, recipe: str) -> list[str | None]:
        """Return the fingerprints of the outputs that the filter reads; None for an absent one."""
        semantic = [self.embeddings(video_id, recipe)] if self.settings.semantic.on else []
        content = [self.boxes(video_id, recipe)] if self.settings.content.on else []
        text = [self.text(video_id, recipe)] if self.settings.text.on else []
        return [read_fingerprint(path) for path in (*semantic, *content, *text)]

    def outdated_videos(self, frames: Mapping[str, Collection[str]]) -> list[str]:
        """Return the videos for whose present frames the output of a model in use is missing.

        Output that is older than the model's file is that of another model. That of the text
        detector, which is installed and not fetched, names its model.

        Parameters
        ----------
        frames : mapping of str to collection of str
            The recipes of the frames of each video that are chosen from.
        """
        models: list[tuple[str, _File, float | None, str | None]] = []
        for model in self.embedding_models.values():
            since = changed(model.checkpoint / CONFIG_FILE)
            models.append(("embed", partial(self.embeddings, model=model), since, None))
        if self.settings.content.on:
            weights = weights_path(self.settings.content.model, self.models)
            models.append(("content", self.boxes, changed(weights), None))
        if self.settings.text.on:
            models.append(("text", self.text, 0.0, self._text_detector()))

        def is_done(video_id: str) -> bool:
            return all(
                is_up_to_date(stage, path(video_id, recipe), recipe, since, model)
                for stage, path, since, model in models
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
        processed = self._embed(frames, threads, progress) if self.embeds else {}
        if self.settings.content.on:
            processed["content"] = self._find_boxes(frames, threads, progress)
        if self.settings.text.on:
            processed["text"] = self._find_text(frames, threads, progress)
        loads = sum(1 for count in processed.values() if count)
        counts = ", ".join(f"{count} by {name}" for name, count in processed.items())
        progress(f"model loads: {loads} for {len(frames)} videos ({counts})")
        return processed

    def _embed(self, frames: _Folders, threads: int, progress: _Progress) -> dict[str, int]:
        from dataminer.stages.embed.embedding import embed
        from dataminer.vision.checkpoint import require_text_tower

        if self.settings.semantic.on:  # before hours of embedding that no prompt can be compared to
            require_text_tower(self.checkpoint)
        models = self.embedding_models
        videos = {
            model: self._videos(frames, partial(self.embeddings, model=model))
            for model in models.values()
        }
        counts = embed(videos, self.settings.semantic, threads=threads, progress=progress)
        return dict(zip(models, counts, strict=True))

    def _find_boxes(self, frames: _Folders, threads: int, progress: _Progress) -> int:
        from dataminer.stages.embed.content import find_boxes

        content = self.settings.content
        weights = weights_path(content.model, self.models)
        videos = self._videos(frames, self.boxes)
        return find_boxes(videos, content, weights, threads=threads, progress=progress)

    def _find_text(self, frames: _Folders, threads: int, progress: _Progress) -> int:
        from dataminer.stages.embed.text import find_text

        videos = self._videos(frames, self.text)
        return find_text(videos, self.settings.text, threads=threads, progress=progress)

    def _text_detector(self) -> str | None:
        """Return the fingerprint of the text detector; None if it is not installed here."""
        from dataminer.stages.embed.text import detector_fingerprint
        from dataminer.vision.scene_text import missing_libraries

        return None if missing_libraries() else detector_fingerprint(self.settings.text)

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
        if self.settings.text.on:
            scores.append(self._text_scores(video_id, recipe))
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

        path = self._present("content", self.boxes(video_id, recipe), video_id, recipe)
        return content.score_boxes(path, self.settings.content)

    def _text_scores(self, video_id: str, recipe: str) -> FrameScores:
        from dataminer.stages.embed import text

        path = self._present("text", self.text(video_id, recipe), video_id, recipe)
        return text.score_text(path, self.settings.text)

    def _present(self, stage: str, path: Path, video_id: str, recipe: str) -> Path:
        """Return the file of a detector's output, by whatever weights, on the present frames."""
        _require(path, video_id)
        video = PendingVideo(video_id, self.store.recipe(video_id, recipe), path, recipe)
        model = str(read_model_output_meta(path).get("model"))
        _require(path, video_id, video.output_fingerprint(stage, model))
        return path


def _require(path: Path, video_id: str, expected: str | None = None) -> None:
    """Refuse a model's output that is absent, or not the expected one."""
    found = read_fingerprint(path)
    if found is None or (expected and found != expected):
        raise TransientError(
            f"the models of the filter have not processed the present frames of video {video_id}",
            ErrorClass.INTERNAL,
            "run snakemake again: rule embed runs them",
        )
