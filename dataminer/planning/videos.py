"""The state of each video in download, extract and filter."""

from __future__ import annotations

from pathlib import Path

from dataminer.db.enums import VideoStatus
from dataminer.planning.file_verdicts import FileVerdicts, VideoVerdicts
from dataminer.planning.frame_choice import FrameChoice
from dataminer.planning.request import PlanRequest
from dataminer.planning.row_verdicts import RowVerdicts
from dataminer.planning.verdicts import KEPT, SecondFrames, Verdict, VerdictState, in_state
from dataminer.store.file_stats import stats
from dataminer.store.trash import measure_size
from dataminer.urls import SourceUrl

_SAMPLED = 20  # videos whose frames are measured to estimate the size of all
_BYTES_PER_SECOND = 500_000.0  # of a file of unknown length: 4 Mbit/s, usual for 1080p


class Videos:
    """The verdicts on videos, stage by stage: by rows, then by files.

    Parameters
    ----------
    request : PlanRequest
        What is planned.
    """

    def __init__(self, request: PlanRequest) -> None:
        self._request, self._records = request, request.records
        self._frames = FrameChoice(request)
        self._verdicts = VideoVerdicts()
        self._judge()

    def _judge(self) -> None:
        request, videos, verdicts = self._request, self._records.videos, self._verdicts
        by_row = RowVerdicts(request, self._frames)
        by_file = FileVerdicts(request, self._frames, verdicts)
        verdicts.downloads |= {v: by_row.download(row) for v, row in videos.items()}
        by_file.correct_downloads()
        if request.wants("extract"):
            downloads = verdicts.downloads
            verdicts.extracts |= {v: by_row.extract(row, downloads[v]) for v, row in videos.items()}
            by_file.correct_extracts()
        if request.wants("filter"):
            extracts = verdicts.extracts
            for project, members in self._records.members.items():
                verdicts.filters[project] = {
                    v: by_row.filter(project, v, row, extracts[v]) for v, row in members.items()
                }
                by_file.correct_filters(project)
        by_file.find_losses()

    @property
    def stages(self) -> dict[str, dict[str, Verdict]]:
        """The verdicts on ``download`` and, if it is wanted, ``extract``."""
        extracts = {"extract": self._verdicts.extracts} if self._request.wants("extract") else {}
        return {"download": self._verdicts.downloads, **extracts}

    @property
    def filters(self) -> dict[str, dict[str, Verdict]]:
        """For each project, the verdict on the filter of each of its videos."""
        return self._verdicts.filters

    def recipes(self) -> dict[str, tuple[str, ...]]:
        """Return the recipes of the frames that the projects choose from, by video."""
        found: dict[str, tuple[str, ...]] = {}
        for v in in_state(self._verdicts.extracts, VerdictState.DONE):
            kept = self._verdicts.extracts[v].reason == KEPT
            recipes = sorted(self._frames.kept(v)) if kept else [self._frames.recipe(v)]
            found[v] = tuple(recipes)
        return found

    def second_frames(self) -> SecondFrames:
        """Return how many videos will have frames of two recipes, and the size of the older ones.

        The size is estimated from a sample: reading each image of 10,000 videos would take minutes.
        """
        if "extract" in self._request.forced:
            return SecondFrames(0, 0)
        due = in_state(self._verdicts.extracts, VerdictState.DUE)
        rows = [
            row
            for row in (self._records.videos[v] for v in due)
            if row.status == VideoStatus.EXTRACTED
            and row.extract_fingerprint != self._frames.recipe(row.video_id)
        ]
        sample = rows[:: -(-len(rows) // _SAMPLED) or 1]
        size = measure_size(map(self._frames.newest_folder, sample)).bytes
        return SecondFrames(len(rows), size * len(rows) // max(len(sample), 1))

    def lengths(self) -> dict[str, float]:
        """Return the length in seconds of each video with work due, if anything indicates it."""
        verdicts = self._verdicts
        stages = (*verdicts.filters.values(), verdicts.extracts, verdicts.downloads)
        due = {v for stage in stages for v in in_state(stage, VerdictState.DUE)}
        rows = {video_id: self._records.videos[video_id] for video_id in due}
        local = [v for v, row in rows.items() if not row.duration and SourceUrl(row.url).is_path]
        files = zip(local, stats([Path(rows[video_id].url) for video_id in local]), strict=True)
        declared = {v: row.duration for v, row in rows.items() if row.duration}
        return declared | {v: file.st_size / _BYTES_PER_SECOND for v, file in files if file}
