"""The stages: files in, files out. They know settings, and nothing of database or workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataminer.config.models import PolicyConfig
from dataminer.files import fingerprint

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


def made_with(stage: str, settings: Mapping[str, Any] | None) -> str:
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
        16 hexadecimal digits; rows and results carry them as ``..._with`` and ``made_with``.
    """
    return fingerprint(stage, VERSIONS[stage], settings)


def policy_mark(policy: PolicyConfig) -> str:
    """Return what tells refusals by one policy from those by another: 16 hexadecimal digits."""
    return fingerprint("policy", policy.model_dump())
