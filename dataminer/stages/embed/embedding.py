"""Embeddings of the frames of many videos, by one model or by several in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataminer.config.models import SemanticConfig
from dataminer.frames.embeddings import model_key, write_embeddings
from dataminer.frames.image_decoding import decode_image
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.embed.pending import PendingVideo
from dataminer.stages.embed.prefetch import (
    Decoded,
    StoredFrame,
    decode_ahead,
    group_into_batches,
    rows_by_video,
    stored_frames,
)
from dataminer.vision.checkpoint import Inputs, Vision, checkpoint_path, load_vision
from dataminer.vision.weights import weights_sha256

_Progress = Callable[[str], None]
_Vector = NDArray[np.float16]


@dataclass(frozen=True)
class EmbeddingModel:
    """A model whose embeddings of frames are in use.

    Attributes
    ----------
    name : str
        As in the configuration: a folder, or a name on the hub.
    setting : str
        The setting that names it.
    folder : Path
        The folder of fetched models.
    """

    name: str
    setting: str
    folder: Path

    @property
    def key(self) -> str:
        """The key of the model in the paths of its embeddings."""
        return model_key(self.name)

    @property
    def checkpoint(self) -> Path:
        """The folder of its checkpoint, which may not exist yet."""
        return checkpoint_path(self.name, self.folder, self.setting)


@dataclass(frozen=True)
class _Embedder:
    """A model, and the settings that it runs with."""

    model: EmbeddingModel
    device: str
    progress: _Progress

    @cached_property
    def sha256(self) -> str:
        return weights_sha256(self.model.checkpoint, self.model.setting)

    @cached_property
    def vision(self) -> Vision:
        """The vision tower, loaded when it is first needed."""
        vision = load_vision(self.model.checkpoint, self.device, self.model.setting)
        self.progress(f"loaded the vision tower of {self.model.checkpoint}")
        return vision


def embed(
    videos: Mapping[EmbeddingModel, Sequence[PendingVideo]],
    settings: SemanticConfig,
    *,
    threads: int,
    progress: _Progress,
) -> list[int]:
    """Embed the frames of the videos that lack it; each model is loaded at most once.

    An image that several models need is read and decoded once. Batches span videos; each file is
    replaced atomically.

    Parameters
    ----------
    videos : mapping of EmbeddingModel to sequence of PendingVideo
        The frames of the same videos for each model, and the files for their embeddings.
    settings : SemanticConfig
        Batch and device.
    threads : int
        For reading and decoding images ahead of the models.
    progress : callable
        Gets a message per video and model.

    Returns
    -------
    list of int
        The number of videos that each model embedded; 0 if it was not loaded.
    """
    embedders = [_Embedder(model, settings.device, progress) for model in videos]
    pending = [
        [video for video in of_model if video.lacks_output("embed", embedder.sha256)]
        for embedder, of_model in zip(embedders, videos.values(), strict=True)
    ]
    for numbers, together in _by_models(pending).items():
        _embed_together([embedders[n] for n in numbers], together, settings.batch, threads)
    return [len(of_model) for of_model in pending]


_SameFrames = tuple[PendingVideo, ...]


def _by_models(
    pending: Sequence[Sequence[PendingVideo]],
) -> dict[tuple[int, ...], list[_SameFrames]]:
    """Group videos by the numbers of the models that they lack; each video is in one group.

    Returns
    -------
    dict of tuple of int to list of tuple of PendingVideo
        By the numbers of some models: per video, its file for each of them.
    """
    lacking: dict[tuple[Path, str], dict[int, PendingVideo]] = {}
    for number, of_model in enumerate(pending):
        for video in of_model:
            lacking.setdefault((video.frames_dir, video.source), {})[number] = video
    groups: dict[tuple[int, ...], list[_SameFrames]] = {}
    for files in lacking.values():
        groups.setdefault(tuple(files), []).append(tuple(files.values()))
    return groups


def _embed_together(
    embedders: Sequence[_Embedder], videos: Sequence[_SameFrames], batch: int, threads: int
) -> None:
    """Embed the frames of videos by several models, and write a file per video and model."""
    files = {same[0]: same for same in videos}
    towers = [embedder.vision for embedder in embedders]
    found = _vectors(towers, stored_frames(files), batch, threads)
    for video, rows in rows_by_video(found, [*files]):
        for number, (file, embedder) in enumerate(zip(files[video], embedders, strict=True)):
            of_model = [(frame.frame_index, vectors[number]) for frame, vectors in rows]
            suffix = f" by {embedder.model.name}" if len(embedders) > 1 else ""
            _write(file, of_model, embedder, suffix)


def _vectors(
    towers: Sequence[Vision], frames: Iterable[StoredFrame], batch: int, threads: int
) -> Iterator[tuple[StoredFrame, Sequence[_Vector | None]]]:
    """Yield the embeddings of frames by each model; None if it cannot read a frame."""

    def prepare(data: bytes) -> list[Inputs | None]:
        image = decode_image(data, rgb=True)
        return [_inputs(tower, image) for tower in towers]

    window = 2 * batch + threads
    decoded = decode_ahead(frames, prepare, threads=threads, window=window)
    for group in group_into_batches(decoded, batch, _shapes):
        columns = [_encode(tower, group, number) for number, tower in enumerate(towers)]
        for item, *vectors in zip(group, *columns, strict=True):
            yield item.frame, vectors


def _inputs(tower: Vision, image: NDArray[np.uint8]) -> Inputs | None:
    """Return a model's inputs for an image; None if its processor refuses the image."""
    try:
        return tower.prepare(image)
    except ValueError:
        return None


def _encode(
    tower: Vision, group: Sequence[Decoded[list[Inputs | None]]], number: int
) -> list[_Vector | None]:
    """Return the embeddings of a batch by the model of a number."""
    inputs = [None if item.value is None else item.value[number] for item in group]
    readable = [value for value in inputs if value is not None]
    vectors = iter(tower.encode(readable) if readable else ())
    return [None if value is None else next(vectors) for value in inputs]


def _shapes(inputs: Sequence[Inputs | None]) -> object:
    return [
        of_model and [(name, array.shape) for name, array in of_model.items()]
        for of_model in inputs
    ]


def _write(
    video: PendingVideo,
    rows: Sequence[tuple[int, _Vector | None]],
    embedder: _Embedder,
    suffix: str,
) -> None:
    """Write the embeddings of a video's frames by one model, without those it could not read."""
    readable = [(frame_index, vector) for frame_index, vector in rows if vector is not None]
    frame_index = np.array([index for index, _ in readable], np.int32)
    vectors = np.array([vector for _, vector in readable], np.float16)
    unreadable = len(rows) - len(readable)
    meta = {
        "stage": "embed",
        "version": VERSIONS["embed"],
        "model": embedder.sha256,
        "mark": video.output_fingerprint("embed", embedder.sha256),
        "unreadable": unreadable,
    }
    vectors = vectors.reshape(len(readable), embedder.vision.dimension)
    write_embeddings(video.out, video.video_id, frame_index, vectors, meta)
    note = f", {unreadable} cannot be read" if unreadable else ""
    embedder.progress(f"embedded {len(readable)} frames of video {video.video_id}{suffix}{note}")
