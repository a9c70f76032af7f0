"""What each result was made from: the only place that defines the contents of fingerprints.

A result whose fingerprint is that of the present settings, version and input is up to date.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataminer.config.models import Config, PolicyConfig
from dataminer.files.hashing import fingerprint
from dataminer.files.links import ABSENT_ERRORS
from dataminer.files.reading import open_file

# A higher number makes a stage's results again: raise it if the same input and the same settings
# give another result than before.
VERSIONS = {
    "download": 1,
    "extract": 4,
    "embed": 1,
    "content": 1,
    "text": 1,
    "filter": 2,
    "dedup": 3,
    "detect": 3,
    "annotations": 2,  # how shards are merged; no model runs again
    "report": 5,
}

Settings = Mapping[str, Any] | None
IN_PAGE = "dataminer-fingerprint"
"""The name under which a page carries its fingerprint, as a ``<meta>`` of its head."""
_HEAD_BYTES, _END_BYTES = 4096, 64
_SECTIONS = ("extract", "filter", "dedup", "detect", "download")


def recipe_id(stage: str, settings: Mapping[str, Any] | None) -> str:
    """Return the fingerprint of a stage's version and settings, without its input.

    Parameters
    ----------
    stage : str
        A key of ``VERSIONS``.
    settings : Mapping or None
        The settings that affect the result; None if none does (a local file is taken as it is).

    Returns
    -------
    str
        16 hexadecimal digits; rows carry them as ``..._with``, and files as ``made_with``.
    """
    return fingerprint(stage, VERSIONS[stage], settings)


def result_settings(config: Config) -> dict[str, dict[str, Any]]:
    """Return the settings that affect results, by section.

    Proxies, cookies and the like are not among them.
    """
    return {name: getattr(config, name).result_settings() for name in _SECTIONS}


def policy_id(policy: PolicyConfig) -> str:
    """Return the fingerprint of a policy: 16 hexadecimal digits."""
    return fingerprint("policy", policy.model_dump())


def refused_id(recipe: str | None, policy: str | None) -> str:
    """Return the ``downloaded_with`` of a video that was refused by a policy.

    Parameters
    ----------
    recipe, policy : str or None
        The :func:`recipe_id` of the download and the :func:`policy_id`.
    """
    return f"{recipe} {policy}"


def of_download(url: str, source: Sequence[Any] | None, settings: Settings) -> str:
    """Return the fingerprint of a downloaded video.

    Parameters
    ----------
    url : str
        The link or path.
    source : sequence or None
        What distinguishes one state of a local file from another; None for a remote source.
    settings : Mapping or None
        None for a local file.
    """
    return fingerprint("download", VERSIONS["download"], url, source, settings)


def of_extract(settings: Settings, sha256: str | None, version: Any = None) -> str:
    """Return the fingerprint of the frames of a video file.

    Its title and the like do not count: they do not affect the frames.
    """
    return fingerprint("extract", version or VERSIONS["extract"], settings, sha256)


def recipe(
    settings: Settings, newest: str | None, fits: bool, sha256: Callable[[], str | None]
) -> str:
    """Return the fingerprint of the frames of a video that the settings make.

    Parameters
    ----------
    settings : Mapping
        The settings of extract.
    newest : str or None
        The fingerprint of the newest frames, from the video's row.
    fits : bool
        Whether the newest frames were made with these settings.
    sha256 : callable
        Returns the hash of the video file; not called if it is not needed.
    """
    return newest if newest and fits else of_extract(settings, sha256())


def of_model_output(stage: str, model: str, frames: str) -> str:
    """Return the fingerprint of a model's output on the frames of a video.

    Parameters
    ----------
    stage : str
        ``embed``, ``content`` or ``text``.
    model : str
        The hash of the model's weights, or :func:`of_content_model`.
    frames : str
        The fingerprint of the frames.
    """
    return fingerprint(stage, VERSIONS[stage], model, frames)


def of_content_model(weights_sha256: str, image_size: int | None) -> str:
    """Return the fingerprint of a detector of content or text, with what affects its boxes."""
    return fingerprint(weights_sha256, image_size)


def of_prompts(texts: Sequence[str], weights_sha256: str) -> str:
    """Return the fingerprint of the embeddings of prompts."""
    return fingerprint("prompts", VERSIONS["embed"], texts, weights_sha256)


def of_semantic_scores(embeddings: str, prompts: str) -> str:
    """Return the fingerprint of a video's semantic scores, by its embeddings and the prompts'."""
    return fingerprint("semantic", embeddings, prompts)


def of_filter(
    settings: Settings, frames: Any, seen: Sequence[str] = (), version: Any = None
) -> str:
    """Return the fingerprint of filtered frames.

    Parameters
    ----------
    settings : Mapping
        The settings of the filter.
    frames : str or None
        The fingerprint of the frames.
    seen : sequence of str
        The fingerprints of what models found in them.
    version : int, optional
        The version of the stage; by default, the present one.
    """
    source = [frames, *seen] if seen else frames
    return fingerprint("filter", version or VERSIONS["filter"], settings, source)


def of_dedup(
    settings: Settings,
    filtered: Iterable[tuple[str, str | None]],
    model: str | None = None,
    version: Any = None,
    references: str | None = None,
) -> str:
    """Return the fingerprint of a project's unique frames.

    Parameters
    ----------
    settings : Mapping
        The settings of dedup.
    filtered : iterable of tuple
        Each video and the fingerprint of its filtered frames, sorted.
    model : str, optional
        The model of the embeddings that were compared.
    version : int, optional
        The version of the stage; by default, the present one.
    references : str, optional
        The state of the pictures that frames were compared with, if there are any.
    """
    by_model = [] if model is None else [model]
    by_references = [] if references is None else [{"references": references}]
    inputs = [list(pair) for pair in filtered]
    parts = (settings, inputs, *by_model, *by_references)
    return fingerprint("dedup", version or VERSIONS["dedup"], *parts)


def of_shard(settings: Settings, weights_sha256: str, contents: Sequence[Any]) -> str:
    """Return the fingerprint of a shard of annotations, by the contents of its frames."""
    return fingerprint(VERSIONS["detect"], settings, weights_sha256, contents)


def of_detect(settings: Settings, weights_sha256: str, unique: str | None) -> str:
    """Return the fingerprint of a project's annotations.

    Parameters
    ----------
    settings : Mapping
        The settings of detect.
    weights_sha256 : str
        The hash of the detector's weights.
    unique : str or None
        The fingerprint of the unique frames.
    """
    versions = (VERSIONS["detect"], VERSIONS["annotations"])
    return fingerprint("detect", *versions, settings, weights_sha256, unique)


def of_report(settings: Settings, annotations: str | None) -> str:
    """Return the fingerprint of a project's report, by its settings and the annotations."""
    return fingerprint("report", VERSIONS["report"], settings, annotations)


def of_page(page: Path) -> str | None:
    """Return the fingerprint that a report carries; None if the report is damaged or absent."""
    try:
        with open_file(page) as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
            file.seek(max(file.seek(0, os.SEEK_END) - _END_BYTES, 0))
            whole = file.read().rstrip().endswith(b"</html>")
    except ABSENT_ERRORS:
        return None
    found = re.search(rf'<meta name="{IN_PAGE}" content="([0-9a-f]+)"', head)
    return found[1] if found and whole else None
