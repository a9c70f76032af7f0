"""The current settings, compared with those that results carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataminer.config import Config
from dataminer.planning.records import VideoRecord
from dataminer.planning.verdicts import INPUT, SETTINGS
from dataminer.provenance import fingerprints
from dataminer.provenance.fingerprints import VERSIONS, policy_id
from dataminer.sync.jobs import results


class CurrentSettings:
    """The settings of each stage that decide its results, as of this version."""

    def __init__(self, config: Config) -> None:
        stages = ("download", "extract", "filter", "dedup", "detect")
        self.of_stage = {name: getattr(config, name).result_settings() for name in stages}
        download = fingerprints.recipe_id("download", self.of_stage["download"])
        self._recipe_ids = {
            # a local file is used as it is, whatever the settings; a refusal names its policy
            "download": {
                fingerprints.recipe_id("download", None),
                download,
                f"{download} {policy_id(config.download.policy)}",
            },
            "extract": {fingerprints.recipe_id("extract", self.of_stage["extract"])},
            "filter": {fingerprints.recipe_id("filter", self.of_stage["filter"])},
        }
        self._reasons: dict[tuple[str, str], str] = {}

    def match(self, stage: str, recipe_id: str | None) -> bool:
        """Return whether a result would be made the same way now."""
        return recipe_id in self._recipe_ids[stage]

    def frames_recipe(self, row: VideoRecord, sha256: Callable[[], str | None]) -> str:
        """Return the recipe of the frames that these settings make of a video."""
        match = self.match("extract", row.extracted_with)
        newest = row.extract_fingerprint
        return fingerprints.recipe(self.of_stage["extract"], newest, match, sha256)

    def filter_fingerprint(self, frames: str | None, seen: Sequence[str]) -> str:
        """Return the fingerprint that filtered frames should carry."""
        return fingerprints.of_filter(self.of_stage["filter"], frames, seen)

    def reason(self, stage: str, recipe_id: str, folder: Path) -> str:
        """Return why results are out of date; reads only one of those made the same way."""
        key = (stage, recipe_id)
        if key not in self._reasons:
            read = results.read_info_or_none if stage == "download" else results.read_frames_meta
            self._reasons[key] = self.reason_by_meta(stage, read(folder) or {})
        return self._reasons[key]

    def reason_by_meta(self, stage: str, meta: Mapping[str, Any]) -> str:
        """Return why a result is out of date, by its own metadata."""
        if meta.get("version") not in (None, VERSIONS[stage]):
            return "made by another version"
        before, now = _flat(meta.get("settings") or {}), _flat(self.of_stage[stage])
        return changed_settings(stage, before, now) or (INPUT if before == now else SETTINGS)


def changed_settings(stage: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return which of a stage's settings have changed, and how; an empty text if none has."""
    changed = [
        f"{stage}.{key} {before[key]} -> {now[key]}"
        for key in sorted(before.keys() & now.keys())
        if before[key] != now[key]
    ]
    return f"{SETTINGS}: {', '.join(changed)}" if changed else ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
