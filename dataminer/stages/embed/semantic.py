"""Embeddings of prompts, and the scores that follow from them and those of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.config.models import PromptsConfig, SemanticConfig
from dataminer.errors import DamagedFile, ErrorClass, PermanentError
from dataminer.frames.embeddings import Embeddings, read_embeddings
from dataminer.frames.table import read_model_output_meta, read_table, write_table
from dataminer.provenance import fingerprints
from dataminer.stages.filter.scores import FrameScores
from dataminer.stages.filter.thresholds import SEMANTIC_THRESHOLDS, passes_by_reason
from dataminer.vision.checkpoint import encode_texts, read_scale
from dataminer.vision.weights import weights_sha256

_Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prompts:
    """Embeddings of prompts, and the factors that turn cosines into logits.

    Attributes
    ----------
    vectors : dict of str to ndarray of float32, shape (d,)
        Unit vectors by prompt.
    scale : float
        Logits per unit of cosine.
    bias : float or None
        Added to logits; None for models trained with softmax (CLIP).
    fingerprint, model : str
        Of the prompts' embeddings, and of the model.
    """

    vectors: dict[str, NDArray[np.float32]]
    scale: float
    bias: float | None
    fingerprint: str
    model: str


def write_prompts(out: Path, prompts: PromptsConfig, checkpoint: Path, progress: _Progress) -> None:
    """Embed the prompts with the text tower alone, and store them with the model's scale.

    Parameters
    ----------
    out : Path
        The file, which is replaced atomically.
    prompts : PromptsConfig
        At least one.
    checkpoint : Path
        The model's folder.
    progress : callable
        Gets a message after the tower was loaded.
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
        "mark": fingerprints.of_prompts(texts, model),
    }
    write_table(out, table, schema, meta, ready=True)


def read_prompts(path: Path, prompts: PromptsConfig) -> Prompts:
    """Read the file that :func:`write_prompts` wrote of these prompts.

    Raises
    ------
    DamagedFile
        The file is not such a table, or it has other prompts.
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


def score(
    embeddings: Embeddings, prompts: Prompts, settings: SemanticConfig, source: str
) -> FrameScores:
    """Score the frames of a video by the prompts, and apply the thresholds.

    Parameters
    ----------
    embeddings : Embeddings
        Of the n frames that could be read.
    prompts : Prompts
        By the same model, with those of ``settings``.
    settings : SemanticConfig
        Prompts and thresholds.
    source : str
        The fingerprint of the embeddings.

    Returns
    -------
    FrameScores
        Columns ``positive_cosine``, ``negative_cosine`` and ``junk_cosine`` (to the best prompt of
        each kind), ``score`` and ``junk`` (probabilities), ``margin`` (logits).
    """
    texts = settings.prompts
    kinds = {"positive": texts.positive, "negative": texts.negative, "junk": texts.junk}
    cosines = {kind: _cosines(embeddings, prompts, kinds[kind]) for kind in kinds}
    best = {kind: _best(values) for kind, values in cosines.items()}
    probability = _probabilities(cosines, prompts)
    margin = prompts.scale * (best["positive"] - best["negative"])
    scores = {f"{kind}_cosine": values for kind, values in best.items()}
    scores |= {"score": probability["positive"], "margin": margin, "junk": probability["junk"]}
    scores = {name: values.astype(np.float32) for name, values in scores.items()}
    passes = passes_by_reason(SEMANTIC_THRESHOLDS, settings, scores)
    source = fingerprints.of_semantic_scores(source, prompts.fingerprint)
    return FrameScores(embeddings.frame_index, scores, passes, source)


def _cosines(embeddings: Embeddings, prompts: Prompts, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the cosines of n frames and k texts, shape (n, k)."""
    if not texts or not len(embeddings):
        return np.zeros((len(embeddings), len(texts)), np.float32)
    vectors = np.stack([prompts.vectors[text] for text in dict.fromkeys(texts)])
    return np.asarray(embeddings.vectors.astype(np.float32) @ vectors.T)


def _best(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    if not cosines.shape[1]:
        return np.full(len(cosines), np.nan, np.float32)
    best: NDArray[np.float32] = cosines.max(axis=1)
    return best


def _probabilities(
    cosines: dict[str, NDArray[np.float32]], prompts: Prompts
) -> dict[str, NDArray[np.float32]]:
    """Return the probability of each kind of prompt: by a sigmoid, or its share of a softmax."""
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


def score_embeddings(path: Path, prompts: Prompts, settings: SemanticConfig) -> FrameScores:
    """Score a video's frames by the file of their embeddings, as :func:`score` does.

    Raises
    ------
    DamagedFile
        The file is not a table of embeddings.
    PermanentError
        ``CORRUPT``: the embeddings are not by the prompts' model.
    """
    embeddings = read_embeddings(path)
    length = len(next(iter(prompts.vectors.values())))
    if embeddings.vectors.shape[1] != length:
        raise PermanentError(
            f"{path} has embeddings of another length than the prompts, {length:,}",
            ErrorClass.CORRUPT,
            "remove the store's folders embeddings and prompts, then run snakemake again",
        )
    return score(embeddings, prompts, settings, str(read_model_output_meta(path).get("mark")))
