"""The state of each project's dataset: dedup, detect and report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus
from dataminer.files.links import is_file
from dataminer.frames.images import seem_complete
from dataminer.planning.current_settings import changed_settings
from dataminer.planning.records import ProjectRecord
from dataminer.planning.request import PlanRequest
from dataminer.planning.verdicts import (
    BEGUN,
    DONE,
    FORCED,
    LOST,
    NEW,
    SETTINGS,
    UNRECORDED,
    Verdict,
    VerdictState,
    in_state,
)
from dataminer.planning.videos import Videos
from dataminer.provenance import fingerprints
from dataminer.stages.dedup.references.listing import ReferencePictures, refuse_own
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import SHEET_FILE
from dataminer.sync.claims.stage_rows import FILTER
from dataminer.sync.jobs import results
from dataminer.vision.hub import MODELS_FOLDER
from dataminer.vision.weights import is_there, weights_path, weights_sha256

_PV, _P = ProjectVideoStatus, ProjectStatus

_CHANGED = f"{SETTINGS} or from other input"


class Datasets:
    """The verdicts on projects, given those on their videos.

    Parameters
    ----------
    request : PlanRequest
        What is planned.
    videos : Videos
        The verdicts on the videos.
    """

    def __init__(self, request: PlanRequest, videos: Videos) -> None:
        self._request, self._config = request, request.config
        self._records, self._store = request.records, request.store
        self._current, self._forced = request.current, request.forced
        self._filters, self._recipes = videos.filters, videos.recipes()
        self._dedup_fingerprints: dict[str, str] = {}
        self._detect_fingerprints: dict[str, str] = {}

    def verdicts(self) -> dict[str, dict[str, Verdict]]:
        """Return the verdicts on the stages of each project; the first reason counts."""
        if not self._request.wants("dedup"):
            return {}
        return {name: self._project(name, row) for name, row in self._records.projects.items()}

    def _project(self, project: str, row: ProjectRecord) -> dict[str, Verdict]:
        dedup = next(self._dedup(project, row), DONE)
        if not self._request.wants("report"):
            return {"dedup": dedup}
        detect = next(self._detect(project, row, dedup), DONE)
        report = next(self._report(project, detect), DONE)
        return {"dedup": dedup, "detect": detect, "report": report}

    def _dedup(self, project: str, row: ProjectRecord) -> Iterator[Verdict]:
        if "dedup" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if in_state(self._filters[project], VerdictState.DUE):
            yield Verdict(VerdictState.DUE, _after("filter", self._dedup_change(project)))
        if row.stage == _P.DEDUPING:
            yield Verdict(VerdictState.DUE, BEGUN)
        folder, expected = self._store.dedup(project), self._dedup_fingerprint(project)
        meta = results.read_frames_meta(folder)  # the row may come from an older dump
        if meta is not None and meta.get("fingerprint") != expected:
            yield Verdict(VerdictState.DUE, self._reason(meta))
        if meta is None and row.dedup_fingerprint != expected:
            yield Verdict(VerdictState.DUE, NEW)
        if meta is None or not (seem_complete(folder, meta) and results.has_clusters(folder, meta)):
            yield Verdict(VerdictState.DUE, LOST)
        if row.stage == _P.DEDUP_READY:
            yield Verdict(VerdictState.DUE, UNRECORDED)
        if row.dedup_fingerprint != expected:
            yield Verdict(VerdictState.DONE, adopt=True)

    def _dedup_fingerprint(self, project: str) -> str:
        """Return the fingerprint that the unique frames of a project should carry."""
        if project not in self._dedup_fingerprints:
            self._dedup_fingerprints[project] = self._make_dedup_fingerprint(project)
        return self._dedup_fingerprints[project]

    def _make_dedup_fingerprint(self, project: str) -> str:
        ended = [
            (video_id, self._filter_fingerprint(project, video_id))
            for video_id, verdict in sorted(self._filters[project].items())
            if verdict.state is not VerdictState.WAITING or self._has_ended(project, video_id)
        ]
        model = self._model(project, (video_id for video_id, _ in ended))
        refuse_own(self._config.dedup, self._store.project(project))
        settings, pictures = self._current.of_stage["dedup"], self._pictures
        return fingerprints.of_dedup(settings, ended, model, references=pictures)

    @cached_property
    def _pictures(self) -> str | None:
        """The state of the pictures that frames are compared with, if there are any."""
        found = ReferencePictures.of(self._config.dedup)
        return None if found is None else found.fingerprint

    def _reason(self, meta: Mapping[str, Any]) -> str:
        """Return why unique frames with this metadata are out of date."""
        before, now = meta.get("exclude", []), self._config.dedup.exclude
        if before != now:
            return f"{SETTINGS}: dedup.exclude {before} -> {now}"
        if meta.get("references") != self._pictures:
            return "a picture of dedup.exclude has changed"
        return self._current.reason_by_meta("dedup", meta)

    def _has_ended(self, project: str, video_id: str) -> bool:
        """Return whether a dataset uses the earlier frames of a video that waits."""
        row = self._records.members[project][video_id]
        return row.status in FILTER.done

    def _filter_fingerprint(self, project: str, video_id: str) -> str | None:
        row = self._records.members[project][video_id]
        if row.filter_fingerprint is not None and row.status != _PV.PENDING:
            return row.filter_fingerprint
        meta = results.read_frames_meta(self._store.filtered(project, video_id)) or {}
        return meta.get("fingerprint")

    def _model(self, project: str, videos: Iterable[str]) -> str | None:
        """Return the model whose embeddings dedup compares, if it compares any."""
        models = FrameModels.of(self._config)
        if not models.compares:
            return None
        from dataminer.stages.dedup.stage import Embedded

        rows = self._records.members[project]
        recipes = {
            v: rows[v].filtered_from or next(iter(self._recipes.get(v, ())), "") for v in videos
        }
        files = {v: models.embedded(v, recipe) for v, recipe in recipes.items() if recipe}
        return Embedded.of(files).model

    def _detect(self, project: str, row: ProjectRecord, dedup: Verdict) -> Iterator[Verdict]:
        if "detect" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if dedup.state is VerdictState.DUE:
            yield Verdict(VerdictState.DUE, _after("dedup", self._detect_change(project)))
        if row.stage == _P.DETECTING:
            yield Verdict(VerdictState.DUE, BEGUN)
        weights = weights_path(self._config.detect.model, MODELS_FOLDER)
        if not is_there(weights):
            yield Verdict(VerdictState.DUE, "after its model is fetched")
        folder, settings = self._store.detect(project), self._current.of_stage["detect"]
        dedup_fingerprint = self._dedup_fingerprint(project)
        expected = fingerprints.of_detect(settings, weights_sha256(weights), dedup_fingerprint)
        self._detect_fingerprints[project] = expected
        if row.detect_fingerprint != expected:
            outcome = results.read_detect(folder)
            if outcome is None or outcome.fingerprint != expected:
                change = self._detect_change(project) or _CHANGED
                yield Verdict(VerdictState.DUE, change if outcome else NEW)
        count = self._dedup_meta(project).get("unique", 0)  # older tables do not have it
        info = results.read_annotations_info(folder)
        whole = results.annotations_seem_whole(folder, count)
        drawn = results.sheet_is_whole(self._store.report(project) / SHEET_FILE)
        if not whole or not drawn or info.get("fingerprint") != expected:
            yield Verdict(VerdictState.DUE, LOST)
        if row.stage == _P.DETECT_READY:
            yield Verdict(VerdictState.DUE, UNRECORDED)
        if row.detect_fingerprint != expected:
            yield Verdict(VerdictState.DONE, adopt=True)

    def _dedup_meta(self, project: str) -> Mapping[str, Any]:
        return results.read_frames_meta(self._store.dedup(project)) or {}

    def _dedup_change(self, project: str) -> str:
        before = self._dedup_meta(project).get("settings") or {}
        return changed_settings("dedup", before, self._current.of_stage["dedup"])

    def _detect_change(self, project: str) -> str:
        before = results.read_annotations_info(self._store.detect(project))
        settings = self._current.of_stage["detect"]
        return changed_settings(
            "detect", before, {**settings, "model": Path(settings["model"]).name}
        )

    def _report(self, project: str, detect: Verdict) -> Iterator[Verdict]:
        if "report" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if detect.state is VerdictState.DUE:
            yield Verdict(VerdictState.DUE, "after detect")
        page = self._store.report(project) / "index.html"
        if not is_file(page):
            yield Verdict(VerdictState.DUE, NEW)
        annotations = self._detect_fingerprints[project]
        expected = fingerprints.of_report(fingerprints.result_settings(self._config), annotations)
        if fingerprints.of_page(page) != expected:
            yield Verdict(VerdictState.DUE, _CHANGED)


def _after(stage: str, change: str) -> str:
    """Return the reason of a dataset that follows another stage, and any changed settings."""
    return f"after {stage}, {change}" if change else f"after {stage}"
