"""What results carry that say how they were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataminer.config import Config
from dataminer.planning.rows import VideoRecord
from dataminer.planning.verdicts import INPUT, SETTINGS
from dataminer.provenance import fingerprints
from dataminer.provenance.fingerprints import VERSIONS, policy_id, recipe_id, refused_id
from dataminer.sync.jobs import results


class Marks:
    """What results carry that were made by this version with these settings."""

    def __init__(self, config: Config) -> None:
        self.settings = fingerprints.result_settings(config)
        downloaded = recipe_id("download", self.settings["download"])
        self._fit = {
            # a local file is taken as it is, whatever the settings; a refusal is by one policy
            "download": {
                recipe_id("download", None),
                downloaded,
                refused_id(downloaded, policy_id(config.download.policy)),
            },
            "extract": {recipe_id("extract", self.settings["extract"])},
            "filter": {recipe_id("filter", self.settings["filter"])},
        }
        self._changes: dict[tuple[str, str], str] = {}

    def fits(self, stage: str, made: str | None) -> bool:
        """Tell whether a result would be made the same way now."""
        return made in self._fit[stage]

    def recipe(self, row: VideoRecord, sha256: Callable[[], str | None]) -> str:
        """Return which frames of a video are those that the settings make."""
        fits = self.fits("extract", row.extracted_with)
        return fingerprints.recipe(self.settings["extract"], row.extract_fingerprint, fits, sha256)

    def of_filter(self, frames: str | None, seen: Sequence[str]) -> str:
        """Return what filtered frames should carry."""
        return fingerprints.of_filter(self.settings["filter"], frames, seen)

    def change(self, stage: str, made: str, folder: Path) -> str:
        """Say what has changed since results were made; one of them tells for all."""
        key = (stage, made)
        if key not in self._changes:
            read = results.read_info if stage == "download" else results.read_frames_meta
            self._changes[key] = self.change_since(stage, read(folder) or {})
        return self._changes[key]

    def change_since(self, stage: str, meta: Mapping[str, Any]) -> str:
        """Say what has changed since a result was made, by what it carries."""
        if meta.get("version") not in (None, VERSIONS[stage]):
            return "made by another version"
        before, now = _flat(meta.get("settings") or {}), _flat(self.settings[stage])
        return changes(stage, before, now) or (INPUT if before == now else SETTINGS)


def changes(stage: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which of a stage's settings have changed, and how; nothing if none has."""
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
