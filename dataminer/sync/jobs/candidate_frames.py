"""The frames of a video that a project's settings choose from, by its row and its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection

from dataminer.config import Config
from dataminer.db.connection import transaction
from dataminer.db.enums import VideoStatus
from dataminer.files.publishing import remove_file
from dataminer.frames.images import seem_complete
from dataminer.frames.table import FRAMES_FILE
from dataminer.provenance import fingerprints, recipes
from dataminer.provenance.fingerprints import recipe_id
from dataminer.store.layout import Store
from dataminer.sync.claims import statements
from dataminer.sync.claims.execution import PATIENCE, query
from dataminer.sync.jobs import results
from dataminer.sync.jobs.failures import Meta


class CandidateFrames(NamedTuple):
    """What a video's row says about its file and its newest frames.

    Parameters
    ----------
    status, error, error_class, extracted_with, extract_fingerprint, sha256 : str or None
        As in the row.
    filtered_from : str or None
        The frames that a project has chosen from before.
    """

    status: str
    error: str | None
    error_class: str | None
    extracted_with: str | None
    extract_fingerprint: str | None
    sha256: str | None
    filtered_from: str | None

    @property
    def is_final(self) -> bool:
        """Whether its source is gone for good, so that there will be no other frames."""
        extracted = self.status == VideoStatus.EXTRACTED
        return extracted and None not in (self.error_class, self.extract_fingerprint)


def read_candidates(
    video_id: str, *, session: str, project: str | None = None
) -> CandidateFrames | None:
    """Return what a video's row says, and the project's; None if there is no such row."""
    values = {"video_id": video_id, "project": project}
    rows = query(statements.FRAMES_OF_VIDEO, values, name=session)
    return CandidateFrames(*rows[0]) if rows else None


def frames_of(config: Config, video_id: str, row: CandidateFrames) -> tuple[Path, Meta | None]:
    """Return the folder of the frames that the settings choose from, and the metadata of its table.

    The metadata is None if the frames are absent, or not all there.
    """
    store = Store(config.store_path)
    settings = config.extract.result_settings()
    fits = row.extracted_with == recipe_id("extract", settings)

    def sha256() -> str | None:  # rows of older versions lack it
        return row.sha256 or (results.read_info_or_none(store.video(video_id)) or {}).get("sha256")

    name = fingerprints.recipe(settings, row.extract_fingerprint, fits, sha256)
    own = store.recipe(video_id, name)
    others = (row.filtered_from, row.extract_fingerprint) if row.is_final else ()
    folders = [store.recipe(video_id, other) for other in others if other]
    for folder in (own, *folders):
        meta = results.read_frames_meta(folder)
        # the job that set EXTRACTED checked the images; whoever misses one reports it
        if meta and (row.status == VideoStatus.EXTRACTED or seem_complete(folder, meta)):
            return folder, meta
    if recipes.has_old_layout(store, video_id):
        adopt_old_layout(store, video_id)
        return frames_of(config, video_id, row)
    return own, None


def folders_of(config: Config, videos: Iterable[str]) -> dict[str, list[Path]]:
    """Return the folders of frames that any project chooses from, for videos that have frames."""
    folders: dict[str, list[Path]] = {}
    for video_id in videos:
        for project in config.project_names:
            row = read_candidates(video_id, session="embed", project=project)
            folder, meta = frames_of(config, video_id, row) if row else (None, None)
            if folder and meta and folder not in folders.setdefault(video_id, []):
                folders[video_id].append(folder)
    return folders


def discard_frames(video_id: str, folder: Path) -> None:
    """Remove the table of damaged frames, so that they are extracted again."""

    def work(connection: Connection) -> None:
        _execute(connection, statements.LOCK_VIDEO, {"video_id": video_id})
        remove_file(folder / FRAMES_FILE)

    transaction(work, patience=PATIENCE, name="filter")


def discard_filtered(project_id: int, video_id: str, folder: Path) -> None:
    """Remove the damaged table of filtered frames, so that they are filtered again."""

    def work(connection: Connection) -> None:
        key = {"project_id": project_id, "video_id": video_id}
        _execute(connection, statements.LOCK_MEMBER, key)
        if results.read_frames_meta(folder) is None:
            remove_file(folder / FRAMES_FILE)

    transaction(work, patience=PATIENCE, name="dedup")


def adopt_old_layout(store: Store, video_id: str) -> None:
    """Move frames of a video from the layout before recipes into the folder of their recipe."""

    def work(connection: Connection) -> None:
        _execute(connection, statements.LOCK_VIDEO, {"video_id": video_id})
        recipes.move_old_layout(store, video_id)

    if recipes.has_old_layout(store, video_id):
        transaction(work, patience=PATIENCE, name="adopt")


def _execute(connection: Connection, statement: str, values: Mapping[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
