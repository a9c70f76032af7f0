"""The videos that a model has still to process, and whether its output is up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.files.links import ABSENT_ERRORS, make_folder
from dataminer.frames.table import FRAMES_FILE, read_meta, read_model_output_meta
from dataminer.provenance import fingerprints


@dataclass(frozen=True)
class PendingVideo:
    """One video's frames and the file for one model's output on them.

    Attributes
    ----------
    video_id : str
        The video.
    frames_dir : Path
        Its frames and their table.
    out : Path
        The file.
    source : str
        The fingerprint of the frame table.
    """

    video_id: str
    frames_dir: Path
    out: Path
    source: str

    def output_fingerprint(self, stage: str, model: str) -> str:
        """Return the fingerprint of an output on these frames by this model."""
        return fingerprints.of_model_output(stage, model, self.source)

    def lacks_output(self, stage: str, model: str) -> bool:
        """Tell whether the file has to be made; one that is up to date gets the present time.

        A file of an older version, which lay beside the video's folder, is moved into the folder.
        """
        expected = self.output_fingerprint(stage, model)
        older = self.out.parent.with_suffix(self.out.suffix)
        if not self.out.exists() and read_fingerprint(older) == expected:
            make_folder(self.out.parent)
            older.replace(self.out)
        if read_fingerprint(self.out) != expected:
            return True
        self.out.touch()  # newer than its frames, even if those were written again
        return False


def pending_video(video_id: str, frames_dir: Path, out: Path) -> PendingVideo | None:
    """Return the frames to process; None for a video that failed or has no frame table yet."""
    meta = _read(read_meta, frames_dir / FRAMES_FILE)
    if meta is None or "failure" in meta:
        return None
    return PendingVideo(video_id, frames_dir, out, str(meta.get("fingerprint")))


def read_fingerprint(path: Path) -> str | None:
    """Return the fingerprint of a model's output; None if it is absent or damaged."""
    found = (_read(read_model_output_meta, path) or {}).get("mark")
    return None if found is None else str(found)


def is_up_to_date(
    stage: str, out: Path, source: str, since: float | None, model: str | None = None
) -> bool:
    """Tell whether a file is of these frames, and not older than the model.

    Parameters
    ----------
    stage : str
        ``embed``, ``content`` or ``text``.
    out : Path
        The file.
    source : str
        The fingerprint of the frame table.
    since : float or None
        When the model's file was last changed; None if there is none.
    model : str, optional
        The fingerprint of the model, if it is known here; otherwise that in the file counts.
    """
    written, meta = changed(out), _read(read_model_output_meta, out) or {}
    if written is None or since is None or written < since:
        return False
    video = PendingVideo("", Path(), out, source)
    expected = video.output_fingerprint(stage, model or str(meta.get("model")))
    return bool(meta.get("mark") == expected)


def changed(path: Path) -> float | None:
    """Return when a file was last changed; None if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _read(read: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any] | None:
    try:
        return read(path)
    except ABSENT_ERRORS:
        return None
