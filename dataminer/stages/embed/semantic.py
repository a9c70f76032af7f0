"""Frames and prompts as embeddings by one model, and how near they are to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.config.models import PromptsConfig, SemanticConfig
from dataminer.errors import DamagedFile, ErrorClass, PermanentError
from dataminer.files.hashing import fingerprint
from dataminer.frames.embeddings import Embeddings, read_embeddings, write_embeddings
from dataminer.frames.table import read_model_output_meta, read_table, write_table
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.embed.pending import PendingVideo
from dataminer.stages.embed.prefetch import DecodedImage, batches, by_video, decode_ahead, pictures
from dataminer.stages.filter.scores import FrameScores
from dataminer.vision.checkpoint import (
    Inputs,
    Vision,
    encode_texts,
    load_vision,
    read_scale,
)
from dataminer.vision.weights import weights_sha256

VERSION = VERSIONS["embed"]
_Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prompts:
    """Prompts as embeddings, and what makes logits of cosines.

    Attributes
    ----------
    vectors : dict of str to ndarray of float32, shape (d,)
        By prompt, of length 1.
    scale : float
        Logits per unit of cosine.
    bias : float or None
        Added to logits; None for models trained with softmax (CLIP).
    mark, model : str
        What changes with the prompts' embeddings, and with the model.
    """

    vectors: dict[str, NDArray[np.float32]]
    scale: float
    bias: float | None
    mark: str
    model: str


def write_prompts(out: Path, prompts: PromptsConfig, checkpoint: Path, progress: _Progress) -> None:
    """Embed the prompts with the text tower alone, and keep them with the model's scale.

    Parameters
    ----------
    out : Path
        The file, which appears whole or not at all.
    prompts : PromptsConfig
        At least one.
    checkpoint : Path
        The model's folder.
    progress : callable
        Told that the tower was loaded.
    """
    texts = sorted(prompts.all)
    vectors = encode_texts(checkpoint, texts)
    progress(f"loaded the text tower of {checkpoint}")
    scale, bias = read_scale(checkpoint)
    dimension = vectors.shape[1]
    schema = pa.schema(
        [
            pa.field("prompt", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension)
    table = pa.Table.from_arrays([pa.array(texts), flat], schema=schema)
    model = weights_sha256(checkpoint)
    meta = {
        "scale": scale,
        "bias": bias,
        "model": model,
        "mark": fingerprint("prompts", VERSION, texts, model),
    }
    write_table(out, table, schema, meta, ready=True)


def read_prompts(path: Path, prompts: PromptsConfig) -> Prompts:
    """Read what :func:`write_prompts` wrote of these prompts.

    Raises
    ------
    DamagedFile
        It is something else.
    """
    table, meta = read_table(path), read_model_output_meta(path)
    try:
        flat = table["embedding"].combine_chunks().flatten().to_numpy()
        rows = flat.reshape(table.num_rows, -1)
        vectors = dict(zip(table["prompt"].to_pylist(), rows, strict=True))
        read = Prompts(vectors, meta["scale"], meta["bias"], meta["mark"], meta["model"])
    except (pa.ArrowException, KeyError, ValueError, AttributeError) as error:
        raise DamagedFile(path, "it cannot be read as embeddings of prompts") from error
    if vectors.keys() != {*prompts.all}:
        raise DamagedFile(path, "it is of other prompts")
    return read


def embed(
    videos: Sequence[PendingVideo],
    settings: SemanticConfig,
    checkpoint: Path,
    *,
    threads: int,
    progress: _Progress,
) -> int:
    """Embed all frames of those videos that lack it, in one process that loads the model once.

    Nothing is loaded when nothing lacks. Batches go across videos; a video's file appears whole.

    Parameters
    ----------
    videos : sequence of PendingVideo
        The videos' frames, and where their embeddings go.
    settings : SemanticConfig
        Batch and device.
    checkpoint : Path
        The model's folder.
    threads : int
        For reading and decoding images ahead of the model.
    progress : callable
        Told of each video.

    Returns
    -------
    int
        How many videos were embedded; 0 where the model was not loaded.
    """
    mark = weights_sha256(checkpoint)
    lacking = [todo for todo in videos if todo.lacks("embed", VERSION, mark)]
    if not lacking:
        return 0
    vision = load_vision(checkpoint, settings.device)
    progress(f"loaded the vision tower of {checkpoint}")
    parts = _vectors(vision, pictures(lacking), settings.batch, threads)
    left = {todo.video_id: todo for todo in lacking}
    for video_id, rows in by_video(parts):
        _write(left.pop(video_id), rows, vision.dimension, mark, progress)
    for todo in left.values():  # without a single frame
        _write(todo, [], vision.dimension, mark, progress)
    return len(lacking)


_Row = tuple[DecodedImage, NDArray[np.float16] | None]


def _vectors(
    vision: Vision, wanted: Iterator[DecodedImage], batch: int, threads: int
) -> Iterator[_Row]:
    window = 2 * batch + threads
    decoded = decode_ahead(wanted, vision.prepare, threads=threads, window=window)
    for group in batches(decoded, batch, _shapes):
        inputs = [item.value for item in group if item.value is not None]
        vectors = iter(vision.encode(inputs) if inputs else ())
        for item in group:
            yield item.picture, None if item.value is None else next(vectors)


def _shapes(inputs: Inputs) -> object:
    return [(name, array.shape) for name, array in inputs.items()]


def _write(
    todo: PendingVideo, rows: Sequence[_Row], dimension: int, model: str, progress: _Progress
) -> None:
    seen = [(picture.frame_index, vector) for picture, vector in rows if vector is not None]
    vectors = np.array([vector for _, vector in seen], np.float16).reshape(len(seen), dimension)
    unread = len(rows) - len(seen)
    meta = {
        "stage": "embed",
        "version": VERSION,
        "model": model,
        "mark": todo.mark("embed", VERSION, model),
        "unreadable": unread,
    }
    places = np.array([place for place, _ in seen], np.int32)
    write_embeddings(todo.out, todo.video_id, places, vectors, meta)
    said = f", {unread} cannot be read" if unread else ""
    progress(f"embedded {len(seen)} frames of video {todo.video_id}{said}")


def look(
    embeddings: Embeddings, prompts: Prompts, settings: SemanticConfig, mark: str
) -> FrameScores:
    """Score the frames of a video against the prompts, and hold the scores against the settings.

    Parameters
    ----------
    embeddings : Embeddings
        Of the n frames that could be read.
    prompts : Prompts
        By the same model; those of ``settings`` among them.
    settings : SemanticConfig
        Prompts and thresholds; a value on a threshold passes.
    mark : str
        Of the embeddings.

    Returns
    -------
    Look
        Columns ``positive_cosine``, ``negative_cosine`` and ``junk_cosine`` (to the best prompt of
        each kind), ``score`` and ``junk`` (probabilities), ``margin`` (logits).
    """
    asked = settings.prompts
    cosines = {
        name: _cosines(embeddings, prompts, texts)
        for name, texts in (
            ("positive", asked.positive),
            ("negative", asked.negative),
            ("junk", asked.junk),
        )
    }
    best = {name: _best(values) for name, values in cosines.items()}
    chance = _chances(cosines, prompts)
    margin = prompts.scale * (best["positive"] - best["negative"])
    scores = {f"{name}_cosine": values for name, values in best.items()}
    scores |= {"score": chance["positive"], "margin": margin, "junk": chance["junk"]}
    scores = {name: values.astype(np.float32) for name, values in scores.items()}
    return FrameScores(
        embeddings.frame_index,
        scores,
        _passes(scores, settings),
        fingerprint("semantic", mark, prompts.mark),
    )


def _cosines(embeddings: Embeddings, prompts: Prompts, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the cosines of n frames and k texts, shape (n, k)."""
    if not texts or not len(embeddings):
        return np.zeros((len(embeddings), len(texts)), np.float32)
    against = np.stack([prompts.vectors[text] for text in dict.fromkeys(texts)])
    return np.asarray(embeddings.vectors.astype(np.float32) @ against.T)


def _best(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    if not cosines.shape[1]:
        return np.full(len(cosines), np.nan, np.float32)
    found: NDArray[np.float32] = cosines.max(axis=1)
    return found


def _chances(
    cosines: dict[str, NDArray[np.float32]], prompts: Prompts
) -> dict[str, NDArray[np.float32]]:
    """Return the probability of each kind of prompt: a sigmoid's, or a share of the softmax."""
    if prompts.bias is not None:
        return {
            name: 1 / (1 + np.exp(-(prompts.scale * _best(values) + prompts.bias).clip(-80, 80)))
            for name, values in cosines.items()
        }
    logits = prompts.scale * np.concatenate(list(cosines.values()), axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    ends = np.cumsum([values.shape[1] for values in cosines.values()])
    shares = np.split(powers / powers.sum(axis=1, keepdims=True), ends[:-1], axis=1)
    return {
        name: share.sum(axis=1) if share.shape[1] else np.full(len(share), np.nan, np.float32)
        for name, share in zip(cosines, shares, strict=True)
    }


def _passes(
    scores: dict[str, NDArray[np.float32]], settings: SemanticConfig
) -> dict[str, NDArray[np.bool_]]:
    asked = settings.prompts
    passes: dict[str, NDArray[np.bool_]] = {}
    if settings.min_score is not None:
        passes["semantic.min_score"] = scores["score"] >= np.float32(settings.min_score)
    if settings.min_cosine is not None:
        passes["semantic.min_cosine"] = scores["positive_cosine"] >= np.float32(settings.min_cosine)
    if asked.positive and asked.negative:
        passes["semantic.min_margin"] = scores["margin"] >= np.float32(settings.min_margin)
    if asked.junk:
        passes["semantic.max_junk"] = scores["junk"] <= np.float32(settings.max_junk)
    return passes


def read_look(path: Path, prompts: Prompts, settings: SemanticConfig) -> FrameScores:
    """Score a video's frames from its embeddings' file, as :func:`look` does.

    Raises
    ------
    DamagedFile
        The file is something else.
    PermanentError
        ``CORRUPT``: it is not of the prompts' model, whatever it says.
    """
    embeddings = read_embeddings(path)
    length = len(next(iter(prompts.vectors.values())))
    if embeddings.vectors.shape[1] != length:
        raise PermanentError(
            f"{path} has embeddings of another length than the prompts, {length:,}",
            ErrorClass.CORRUPT,
            "remove the store's folders embeddings and prompts, then run snakemake again",
        )
    return look(embeddings, prompts, settings, str(read_model_output_meta(path).get("mark")))
