"""Which frames of a video a project's settings choose, by its row and its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dataminer.config import Config
from dataminer.db.connection import transaction
from dataminer.db.enums import VideoStatus
from dataminer.files import remove_file
from dataminer.frames.images import seem_whole
from dataminer.frames.table import FRAMES_FILE
from dataminer.provenance import fingerprints, recipes
from dataminer.provenance.fingerprints import recipe_id
from dataminer.store.layout import Store
from dataminer.sync.claims import statements
from dataminer.sync.claims.claims import PATIENCE
from dataminer.sync.jobs import results


class CandidateFrames(NamedTuple):
    """What a video's row says of its file and its newest frames.

    Parameters
    ----------
    status, error, error_class, extracted_with, extract_fingerprint, sha256 : str or None
        As in the row.
    filtered_from : str or None
        From which frames a project has chosen before.
    """

    status: str
    error: str | None
    error_class: str | None
    extracted_with: str | None
    extract_fingerprint: str | None
    sha256: str | None
    filtered_from: str | None

    @property
    def kept(self) -> bool:
        """Whether its source is gone for good, so that there will be no other frames."""
        kept = self.status == VideoStatus.EXTRACTED
        return kept and None not in (self.error_class, self.extract_fingerprint)


def read_candidates(
    video_id: str, *, session: str, project: str | None = None
) -> CandidateFrames | None:
    """Return what a video's row says, and the project's; None if there is no such row."""

    def work(connection: Any) -> Any:
        with connection.cursor() as cursor:
            values = {"video_id": video_id, "project": project}
            cursor.execute(statements.FRAMES_OF_VIDEO, values)
            return cursor.fetchone()

    row = transaction(work, patience=PATIENCE, name=session, single=True)
    return CandidateFrames(*row) if row else None


def frames_of(
    config: Config, video_id: str, row: CandidateFrames
) -> tuple[Path, results.Meta | None]:
    """Return the folder of the frames that the settings choose, and what is known about them.

    None is known of frames that are not there, or not all.
    """
    store = Store(config.store_path)
    settings = config.extract.result_settings()
    fits = row.extracted_with == recipe_id("extract", settings)

    def sha256() -> str | None:  # older rows do not tell
        return row.sha256 or (results.read_info(store.video(video_id)) or {}).get("sha256")

    made = fingerprints.recipe(settings, row.extract_fingerprint, fits, sha256)
    own = store.recipe(video_id, made)
    others = (row.filtered_from, row.extract_fingerprint) if row.kept else ()
    folders = [store.recipe(video_id, name) for name in others if name]
    for folder in (own, *folders):
        found = results.read_frames_meta(folder)
        # a row that says EXTRACTED has seen them; who finds one missing says so
        if found and (row.status == VideoStatus.EXTRACTED or seem_whole(folder, found)):
            return folder, found
    if recipes.is_older(store, video_id):
        take_over(store, video_id)
        return frames_of(config, video_id, row)
    return own, None


def folders_of(config: Config, videos: Iterable[str]) -> dict[str, list[Path]]:
    """Return the folders of the frames that each project chooses from, of videos that have any."""
    folders: dict[str, list[Path]] = {}
    for video_id in videos:
        for project in config.project_names:
            row = read_candidates(video_id, session="embed", project=project)
            folder, found = frames_of(config, video_id, row) if row else (None, None)
            if folder and found and folder not in folders.setdefault(video_id, []):
                folders[video_id].append(folder)
    return folders


def lose(video_id: str, folder: Path) -> None:
    """Have frames that are not whole made again, by taking away their table."""

    def work(connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statements.HOLD_VIDEO, {"video_id": video_id})
        remove_file(folder / FRAMES_FILE)

    transaction(work, patience=PATIENCE, name="filter")


def lose_filtered(project_id: int, video_id: str, folder: Path) -> None:
    """Have filtered frames that are not whole made again, by taking away their table."""

    def work(connection: Any) -> None:
        with connection.cursor() as cursor:
            values = {"project_id": project_id, "video_id": video_id}
            cursor.execute(statements.HOLD_MEMBER, values)
        if results.read_frames_meta(folder) is None:
            remove_file(folder / FRAMES_FILE)

    transaction(work, patience=PATIENCE, name="dedup")


def take_over(store: Store, video_id: str) -> None:
    """Move frames of a video that lie as they did before there were recipes."""

    def work(connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statements.HOLD_VIDEO, {"video_id": video_id})
        recipes.take_over(store, video_id)

    if recipes.is_older(store, video_id):
        transaction(work, patience=PATIENCE, name="adopt")
