"""Where the dataset of each project stands: dedup, detect and report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dataminer.config import Config
from dataminer.db.enums import ProjectStatus, ProjectVideoStatus
from dataminer.files.links import is_file
from dataminer.frames.images import seem_complete
from dataminer.planning.marks import Marks, changes
from dataminer.planning.rows import ProjectRecord, Rows
from dataminer.planning.verdicts import (
    BEGUN,
    DONE,
    FORCED,
    LOST,
    NEW,
    SETTINGS,
    UNRECORDED,
    UPTO,
    Verdict,
    VerdictState,
    in_state,
)
from dataminer.planning.videos import Videos
from dataminer.provenance import fingerprints
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import SHEET_FILE, Store
from dataminer.sync.jobs import results
from dataminer.vision.hub import MODELS_FOLDER
from dataminer.vision.weights import is_there, weights_path, weights_sha256

_PV, _P = ProjectVideoStatus, ProjectStatus

_CHANGED = f"{SETTINGS} or from other input"


class Datasets:
    """Judges projects, once their videos are.

    Parameters
    ----------
    config : Config
        The settings.
    rows : Rows
        What the database knows.
    videos : Videos
        Judged.
    upto : str
        The last stage that is wanted.
    forced : set of str
        Stages whose results are made anew.
    """

    def __init__(
        self,
        config: Config,
        rows: Rows,
        videos: Videos,
        upto: str,
        forced: frozenset[str],
    ) -> None:
        self._config, self._rows, self._forced = config, rows, forced
        self._frames = videos.frames()
        self._filters, self._last = videos.filters, UPTO.index(upto)
        self._store = Store(config.store_path)
        self._marks = Marks(config)
        self._unique: dict[str, str] = {}
        self._annotated: dict[str, str] = {}

    def judge(self) -> dict[str, dict[str, Verdict]]:
        """Return the verdicts on the stages of each project; the first reason counts."""
        if self._last < UPTO.index("dedup"):
            return {}
        return {name: self._project(name, row) for name, row in self._rows.projects.items()}

    def _project(self, project: str, row: ProjectRecord) -> dict[str, Verdict]:
        judged: dict[str, Verdict] = {}
        judged["dedup"] = next(self._dedup(project, row), DONE)
        if self._last < UPTO.index("report"):
            return judged
        judged["detect"] = next(self._detect(project, row, judged["dedup"]), DONE)
        judged["report"] = next(self._report(project, judged["detect"]), DONE)
        return judged

    def _dedup(self, project: str, row: ProjectRecord) -> Iterator[Verdict]:
        if "dedup" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if in_state(self._filters[project], VerdictState.DUE):
            yield Verdict(VerdictState.DUE, _after("filter", self._dedup_change(project)))
        if row.stage == _P.DEDUPING:
            yield Verdict(VerdictState.DUE, BEGUN)
        folder, expected = self._store.dedup(project), self._unique_fingerprint(project)
        meta = results.read_frames_meta(folder)  # the row may be of an older dump
        if meta is not None and meta.get("fingerprint") != expected:
            yield Verdict(VerdictState.DUE, self._marks.change_since("dedup", meta))
        if meta is None and row.dedup_fingerprint != expected:
            yield Verdict(VerdictState.DUE, NEW)
        if meta is None or not (seem_complete(folder, meta) and results.has_clusters(folder, meta)):
            yield Verdict(VerdictState.DUE, LOST)
        if row.stage == _P.DEDUP_READY:
            yield Verdict(VerdictState.DUE, UNRECORDED)
        if row.dedup_fingerprint != expected:
            yield Verdict(VerdictState.DONE, adopt=True)

    def _unique_fingerprint(self, project: str) -> str:
        """Return what the unique frames of a project should be made from."""
        if project not in self._unique:
            self._unique[project] = self._of_filtered(project)
        return self._unique[project]

    def _of_filtered(self, project: str) -> str:
        ended = [
            (video_id, self._filter_fingerprint(project, video_id))
            for video_id, verdict in sorted(self._filters[project].items())
            if verdict.state is not VerdictState.WAITING or self._has_ended(project, video_id)
        ]
        model = self._model(project, (video_id for video_id, _ in ended))
        return fingerprints.of_dedup(self._marks.settings["dedup"], ended, model)

    def _has_ended(self, project: str, video_id: str) -> bool:
        """Whether a dataset is made with what there is of a video that waits."""
        row = self._rows.members[project][video_id]
        return row.status not in (_PV.PENDING, _PV.FILTERING)

    def _filter_fingerprint(self, project: str, video_id: str) -> str | None:
        row = self._rows.members[project][video_id]
        if row.filter_fingerprint is not None and row.status != _PV.PENDING:
            return row.filter_fingerprint
        meta = results.read_frames_meta(self._store.filtered(project, video_id)) or {}
        return meta.get("fingerprint")

    def _model(self, project: str, videos: Iterable[str]) -> str | None:
        """Return whose embeddings dedup compares, if it compares embeddings."""
        looking = FrameModels.of(self._config)
        if not looking.compares:
            return None
        from dataminer.stages.dedup.stage import Embedded

        rows = self._rows.members[project]
        recipes = {
            v: rows[v].filtered_from or next(iter(self._frames.get(v, ())), "") for v in videos
        }
        files = {v: looking.embedded(v, recipe) for v, recipe in recipes.items() if recipe}
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
        folder, settings = self._store.detect(project), self._marks.settings["detect"]
        unique = self._unique_fingerprint(project)
        expected = fingerprints.of_detect(settings, weights_sha256(weights), unique)
        self._annotated[project] = expected
        if row.detect_fingerprint != expected:
            outcome = results.read_detect(folder)
            if outcome is None or outcome.fingerprint != expected:
                change = self._detect_change(project) or _CHANGED
                yield Verdict(VerdictState.DUE, change if outcome else NEW)
        count = self._about_unique(project).get("unique", 0)  # older tables do not say
        about = results.read_annotations_info(folder)
        whole = results.annotations_seem_whole(folder, count)
        drawn = results.sheet_is_whole(self._store.report(project) / SHEET_FILE)
        if not whole or not drawn or about.get("fingerprint") != expected:
            yield Verdict(VerdictState.DUE, LOST)
        if row.stage == _P.DETECT_READY:
            yield Verdict(VerdictState.DUE, UNRECORDED)
        if row.detect_fingerprint != expected:
            yield Verdict(VerdictState.DONE, adopt=True)

    def _about_unique(self, project: str) -> Mapping[str, Any]:
        return results.read_frames_meta(self._store.dedup(project)) or {}

    def _dedup_change(self, project: str) -> str:
        before = self._about_unique(project).get("settings") or {}
        return changes("dedup", before, self._marks.settings["dedup"])

    def _detect_change(self, project: str) -> str:
        before = results.read_annotations_info(self._store.detect(project))
        settings = self._marks.settings["detect"]
        return changes("detect", before, {**settings, "model": Path(settings["model"]).name})

    def _report(self, project: str, detect: Verdict) -> Iterator[Verdict]:
        if "report" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if detect.state is VerdictState.DUE:
            yield Verdict(VerdictState.DUE, "after detect")
        page = self._store.report(project) / "index.html"
        if not is_file(page):
            yield Verdict(VerdictState.DUE, NEW)
        annotated = self._annotated[project]
        expected = fingerprints.of_report(fingerprints.result_settings(self._config), annotated)
        if fingerprints.of_page(page) != expected:
            yield Verdict(VerdictState.DUE, _CHANGED)


def _after(stage: str, change: str) -> str:
    """Say that a dataset follows another stage, and what has changed besides."""
    return f"after {stage}, {change}" if change else f"after {stage}"
