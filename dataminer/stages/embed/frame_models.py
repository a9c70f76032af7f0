"""What one configuration has models look at: which files that takes, makes and gives."""

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
from dataminer.stages.embed.pending import PendingVideo, changed, has_seen, pending_video, read_mark
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
    """The models of a configuration, and where what they see lies.

    Parameters
    ----------
    store : Store
        The store.
    settings : FilterConfig
        Which models, and what they are asked.
    compares : bool
        Whether dedup compares embeddings: then they are made even without prompts.
    models : Path
        Where fetched models are kept.
    """

    store: Store
    settings: FilterConfig
    compares: bool = False
    models: Path = MODELS_FOLDER

    @classmethod
    def of(cls, config: Config) -> FrameModels:
        """Return what a configuration has models look at."""
        compares = config.dedup.method == "embedding"
        return cls(Store(config.store_path), config.filter, compares)

    @property
    def embeds(self) -> bool:
        """Whether frames are embedded."""
        return self.compares or self.settings.semantic.on

    @property
    def on(self) -> bool:
        """Whether a model looks at frames at all."""
        return self.embeds or self.settings.content.on

    @property
    def on_gpu(self) -> bool:
        """Whether the settings of a model that is in use name a CUDA GPU."""
        semantic = self.embeds and self.settings.semantic.device.startswith("cuda")
        content = self.settings.content.on and self.settings.content.device.startswith("cuda")
        return semantic or content

    @property
    def checkpoint(self) -> Path:
        """The folder of the semantic filter's model, there or not."""
        from dataminer.vision.checkpoint import checkpoint_path

        return checkpoint_path(self.settings.semantic.model, self.models)

    @property
    def prompts(self) -> Path:
        """The file of the prompts' embeddings."""
        return self.store.prompts(self.key, fingerprint(sorted(self.settings.semantic.prompts.all)))

    @property
    def key(self) -> str:
        """What tells embeddings of the semantic filter's model from those of another."""
        return model_key(self.settings.semantic.model)

    def embeddings(self, video_id: str, recipe: str) -> Path:
        """Return the file of the embeddings of a video's frames of one recipe."""
        return self.store.embeddings(self.key, video_id, recipe)

    def embedded(self, video_id: str, recipe: str) -> Path:
        """Return where embeddings are: those of an older version lie beside the video's folder."""
        path = self.embeddings(video_id, recipe)
        older = path.parent.with_name(f"{video_id}{path.suffix}")
        return older if older.is_file() and not path.exists() else path

    def boxes(self, video_id: str, recipe: str) -> Path:
        """Return the file of the objects in a video's frames of one recipe."""
        content = self.settings.content
        key = model_key(content.model, content.image_size)
        return self.store.content(key, video_id, recipe)

    def model_fingerprints(self, video_id: str, recipe: str) -> list[str | None]:
        """Return the marks of what the models saw in frames that are filtered; None of no file."""
        semantic = [self.embeddings(video_id, recipe)] if self.settings.semantic.on else []
        content = [self.boxes(video_id, recipe)] if self.settings.content.on else []
        return [read_mark(path) for path in (*semantic, *content)]

    def unseen(self, frames: Mapping[str, Collection[str]]) -> list[str]:
        """Return the videos that a model in use has not seen as their frames are now.

        What is older than the model's file was seen by another model.

        Parameters
        ----------
        frames : mapping of str to collection of str
            The recipes of the frames of each video that are chosen from.
        """
        eyes: list[tuple[str, _File, Path]] = []
        if self.embeds:
            eyes.append(("embed", self.embeddings, self.checkpoint / CONFIG_FILE))
        if self.settings.content.on:
            weights = weights_path(self.settings.content.model, self.models)
            eyes.append(("content", self.boxes, weights))
        fetched = [(stage, path, changed(file)) for stage, path, file in eyes]

        def seen(video_id: str) -> bool:
            return all(
                has_seen(stage, path(video_id, recipe), recipe, since)
                for stage, path, since in fetched
                for recipe in frames[video_id]
            )

        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            found = zip(frames, pool.map(seen, frames), strict=True)
            return [video_id for video_id, was_seen in found if not was_seen]

    def batches(self, videos: Sequence[str]) -> list[tuple[str, ...]]:
        """Part videos into batches for one process each, which loads each model once."""
        size = self.settings.videos_per_job
        return [tuple(videos[start : start + size]) for start in range(0, len(videos), size)]

    def run_models(self, frames: _Folders, threads: int, progress: _Progress) -> dict[str, int]:
        """Have each model in use look at the videos of a batch that it has not seen.

        One process loads each model once, or not at all where it has seen every frame. Videos that
        failed are passed over.

        Parameters
        ----------
        frames : mapping of str to collection of Path
            The folders of the frames of each video of the batch.
        threads : int
            For reading and decoding images ahead of a model.
        progress : callable
            Told a line now and then.

        Returns
        -------
        dict of str to int
            How many videos each model looked at.
        """
        looked = {}
        if self.embeds:
            looked["semantic"] = self._embed(frames, threads, progress)
        if self.settings.content.on:
            looked["content"] = self._find_boxes(frames, threads, progress)
        loads = sum(1 for count in looked.values() if count)
        said = ", ".join(f"{count} by {name}" for name, count in looked.items())
        progress(f"model loads: {loads} for {len(frames)} videos ({said})")
        return looked

    def _embed(self, frames: _Folders, threads: int, progress: _Progress) -> int:
        from dataminer.stages.embed.semantic import embed

        todos = self._todos(frames, self.embeddings)
        return embed(
            todos, self.settings.semantic, self.checkpoint, threads=threads, progress=progress
        )

    def _find_boxes(self, frames: _Folders, threads: int, progress: _Progress) -> int:
        from dataminer.stages.embed.content import find_boxes

        content = self.settings.content
        weights = weights_path(content.model, self.models)
        todos = self._todos(frames, self.boxes)
        return find_boxes(todos, content, weights, threads=threads, progress=progress)

    def _todos(self, frames: _Folders, out: _File) -> list[PendingVideo]:
        pairs = ((v, folder) for v, folders in frames.items() for folder in folders)
        found = [pending_video(v, folder, out(v, folder.name)) for v, folder in pairs]
        return [item for item in found if item]

    def frame_scores(self, video_id: str, source: Mapping[str, Any]) -> list[FrameScores]:
        """Hold what the models saw in a video's frames against the settings; needs no model.

        Parameters
        ----------
        video_id : str
            The video.
        source : Mapping
            The metadata of its frame table; one that tells of a failure was not looked at.

        Raises
        ------
        DamagedFile
            What a model saw, or the prompts' embeddings, cannot be read.
        TransientError
            The models have not seen these frames yet.
        """
        if "failure" in source:
            return []
        found: list[FrameScores] = []
        mark = str(source.get("fingerprint"))
        if self.settings.semantic.on:
            from dataminer.stages.embed import semantic

            _there(self.prompts, video_id)
            prompts = semantic.read_prompts(self.prompts, self.settings.semantic.prompts)
            path = self.embeddings(video_id, mark)
            item = PendingVideo(video_id, self.store.recipe(video_id, mark), path, mark)
            _there(path, video_id, item.mark("embed", semantic.VERSION, prompts.model))
            found.append(semantic.read_look(path, prompts, self.settings.semantic))
        if self.settings.content.on:
            from dataminer.stages.embed import content

            path = self.boxes(video_id, mark)
            _there(path, video_id)
            item = PendingVideo(video_id, self.store.recipe(video_id, mark), path, mark)
            model = str(read_model_output_meta(path).get("model"))
            _there(path, video_id, item.mark("content", content.VERSION, model))
            found.append(content.read_look(path, self.settings.content))
        return found


def _there(path: Path, video_id: str, mark: str | None = None) -> None:
    found = read_mark(path)
    if found is None or (mark and found != mark):
        raise TransientError(
            f"the models of filter.semantic and filter.content have not seen the frames of video"
            f" {video_id} as they are now",
            ErrorClass.INTERNAL,
            "run snakemake again: rule embed has them look",
        )
