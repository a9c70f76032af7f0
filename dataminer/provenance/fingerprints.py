"""What each result was made from: the one place that says what a fingerprint is made of.

A result whose fingerprint is that of the present settings, version and input is up to date.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataminer.config.models import PolicyConfig
from dataminer.files import ABSENT, fingerprint, open_file

# A stage's results are made anew when its number rises: when the same input and the same settings
# would give something else than before.
VERSIONS = {
    "download": 1,
    "extract": 3,
    "embed": 1,
    "content": 1,
    "filter": 2,
    "dedup": 3,
    "detect": 3,
    "annotations": 2,  # how shards are put together; no model looks again
    "report": 3,
}

Settings = Mapping[str, Any] | None
IN_PAGE = "dataminer-fingerprint"
"""The name under which a page carries its fingerprint, as a ``<meta>`` of its head."""
_HEAD_BYTES, _END_BYTES = 4096, 64


def recipe_id(stage: str, settings: Mapping[str, Any] | None) -> str:
    """Return what tells results of one version and one set of settings from those of another.

    Parameters
    ----------
    stage : str
        A key of ``VERSIONS``.
    settings : Mapping or None
        The settings that decide what comes out; None where none does (a local file is taken as
        it is).

    Returns
    -------
    str
        16 hexadecimal digits; rows and results carry them as ``..._with`` and ``recipe_id``.
    """
    return fingerprint(stage, VERSIONS[stage], settings)


def policy_id(policy: PolicyConfig) -> str:
    """Return what tells refusals by one policy from those by another: 16 hexadecimal digits."""
    return fingerprint("policy", policy.model_dump())


def of_download(url: str, source: Sequence[Any] | None, settings: Settings) -> str:
    """Return the fingerprint of a downloaded video.

    Parameters
    ----------
    url : str
        The link or path.
    source : sequence or None
        What tells one state of a local file from another.
    settings : Mapping or None
        None for a local file.
    """
    return fingerprint("download", VERSIONS["download"], url, source, settings)


def of_extract(settings: Settings, sha256: str | None, version: Any = None) -> str:
    """Return the fingerprint of the frames of a video file.

    Not of its title and the like: they are copied into the table, and decode to the same frames.
    """
    return fingerprint("extract", version or VERSIONS["extract"], settings, sha256)


def recipe(
    settings: Settings, newest: str | None, fits: bool, sha256: Callable[[], str | None]
) -> str:
    """Return which frames of a video are those that these settings make.

    Parameters
    ----------
    settings : Mapping
        Of extract.
    newest : str or None
        The fingerprint of the newest frames, as the video's row says.
    fits : bool
        Whether these were made with the settings.
    sha256 : callable
        Returns that of the video file; not called if it is not needed.
    """
    return newest if newest and fits else of_extract(settings, sha256())


def of_filter(
    settings: Settings, frames: Any, seen: Sequence[str] = (), version: Any = None
) -> str:
    """Return the fingerprint of filtered frames.

    Parameters
    ----------
    settings : Mapping
        Of the filter.
    frames : str or None
        The fingerprint of the frames.
    seen : sequence of str
        Those of what models saw in them.
    version : int, optional
        Of the stage; the present one by default.
    """
    source = [frames, *seen] if seen else frames
    return fingerprint("filter", version or VERSIONS["filter"], settings, source)


def of_dedup(
    settings: Settings,
    filtered: Iterable[tuple[str, str | None]],
    model: str | None = None,
    version: Any = None,
) -> str:
    """Return the fingerprint of a project's unique frames.

    Parameters
    ----------
    settings : Mapping
        Of dedup.
    filtered : iterable of tuple
        Each video and the fingerprint of its filtered frames, sorted.
    model : str, optional
        Whose embeddings were compared.
    version : int, optional
        Of the stage; the present one by default.
    """
    by_model = [] if model is None else [model]
    inputs = [list(pair) for pair in filtered]
    return fingerprint("dedup", version or VERSIONS["dedup"], settings, inputs, *by_model)


def of_detect(settings: Settings, weights_sha256: str, unique: str | None) -> str:
    """Return the fingerprint of a project's annotations.

    Parameters
    ----------
    settings : Mapping
        Of detect.
    weights_sha256 : str
        The detector's.
    unique : str or None
        The fingerprint of the unique frames.
    """
    versions = (VERSIONS["detect"], VERSIONS["annotations"])
    return fingerprint("detect", *versions, settings, weights_sha256, unique)


def of_report(settings: Settings, annotations: str | None) -> str:
    """Return the fingerprint of a project's report: of what it shows, and of the dataset."""
    return fingerprint("report", VERSIONS["report"], settings, annotations)


def of_page(page: Path) -> str | None:
    """Return the fingerprint that a report carries; None if it is damaged, or not there."""
    try:
        with open_file(page) as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
            file.seek(max(file.seek(0, os.SEEK_END) - _END_BYTES, 0))
            whole = file.read().rstrip().endswith(b"</html>")
    except ABSENT:
        return None
    found = re.search(rf'<meta name="{IN_PAGE}" content="([0-9a-f]+)"', head)
    return found[1] if found and whole else None
