"""What a model has still to look at: a video's frames, and where what it sees goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.files.hashing import fingerprint
from dataminer.files.links import ABSENT_ERRORS, make_folder
from dataminer.frames.table import FRAMES_FILE, read_meta, read_model_output_meta
from dataminer.provenance.fingerprints import VERSIONS


@dataclass(frozen=True)
class PendingVideo:
    """One video's frames and the file for what one model sees in them.

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

    def mark(self, stage: str, version: int, model: str) -> str:
        """Return what tells that a file is of these frames and this model."""
        return fingerprint(stage, version, model, self.source)

    def lacks(self, stage: str, version: int, model: str) -> bool:
        """Tell whether the file has to be made; one that need not be is given the present time.

        One of an older version, which lay beside the folder of the video's, is moved into it.
        """
        mark = self.mark(stage, version, model)
        older = self.out.parent.with_suffix(self.out.suffix)
        if not self.out.exists() and read_mark(older) == mark:
            make_folder(self.out.parent)
            older.replace(self.out)
        if read_mark(self.out) != mark:
            return True
        self.out.touch()  # newer than its frames again, where those were written anew
        return False


def pending_video(video_id: str, frames_dir: Path, out: Path) -> PendingVideo | None:
    """Return what is to be looked at; None for a video that failed or has no frame table yet."""
    meta = _read(read_meta, frames_dir / FRAMES_FILE)
    if meta is None or "failure" in meta:
        return None
    return PendingVideo(video_id, frames_dir, out, str(meta.get("fingerprint")))


def read_mark(path: Path) -> str | None:
    """Return the mark of a file; None where there is none, or it is damaged."""
    mark = (_read(read_model_output_meta, path) or {}).get("mark")
    return None if mark is None else str(mark)


def has_seen(stage: str, out: Path, source: str, since: float | None) -> bool:
    """Tell whether a file is of these frames, and by the model that is here now.

    Parameters
    ----------
    stage : str
        ``embed`` or ``content``.
    out : Path
        The file.
    source : str
        The fingerprint of the frame table.
    since : float or None
        When the model's file was last changed; None if it is not here.
    """
    made, meta = changed(out), _read(read_model_output_meta, out) or {}
    mark = PendingVideo("", Path(), out, source).mark(
        stage, VERSIONS[stage], str(meta.get("model"))
    )
    return made is not None and since is not None and made >= since and meta.get("mark") == mark


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
