"""Read the finished files of each stage, in the terms of its row."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, VideoStatus
from dataminer.errors import DamagedFile, DataminerError, ErrorClass
from dataminer.files.links import ABSENT_ERRORS, StrPath, lstat_or_none
from dataminer.files.reading import (
    MAX_DOCUMENT_BYTES,
    names_without_links,
    open_file,
    read_file,
    sizes_in,
)
from dataminer.formats.yolo import data_yaml, label_size
from dataminer.frames.images import FrameReader
from dataminer.frames.table import CLUSTERS_FILE, FRAMES_FILE, read_meta
from dataminer.provenance import recipes
from dataminer.provenance.fingerprints import recipe_id, refused_id
from dataminer.store import documents
from dataminer.store.layout import ANNOTATIONS_FILE, DATA_FILE, INFO_FILE, Store
from dataminer.sync.jobs.failures import REFUSALS, Meta, is_refused
from dataminer.sync.tasks.task import TaskOutcome

_JPEG_END = b"\xff\xd9"
_HEAD = 2**20  # bytes within which the info of annotations ends
_END = 64  # bytes that are read at the end of a file


def read_info_or_none(folder: StrPath) -> Meta | None:
    """Return the contents of a video's ``info.json``; None if there is none, or it is damaged."""
    try:
        return documents.read_info(os.path.join(folder, INFO_FILE))
    except ABSENT_ERRORS:
        return None


def video_file(folder: Path, info: Meta) -> Path:
    """Return the video file that ``info.json`` names, as :func:`read_info_or_none` checked."""
    return folder / str(info.get("video"))


def read_frames_meta(folder: StrPath) -> Meta | None:
    """Return the metadata of a folder's frame table; None if it is absent or damaged."""
    try:
        return read_meta(os.path.join(folder, FRAMES_FILE))
    except ABSENT_ERRORS:
        return None


def read_download(folder: Path) -> TaskOutcome | None:
    """Read what a video's folder says."""
    info = read_info_or_none(folder)
    return None if info is None else outcome_of_info(folder, info)


def outcome_of_info(folder: Path, info: Meta) -> TaskOutcome | None:
    """Return what a video's folder says, given its ``info.json``."""
    if "failure" in info:
        return _failed(VideoStatus.FAILED, info, _download_columns(info))
    video = video_file(folder, info)
    found = lstat_or_none(video)
    if not found or not stat.S_ISREG(found.st_mode) or found.st_size != info.get("size_bytes"):
        return None
    columns = {
        "video_path": video,
        "title": info.get("title"),
        "uploader": info.get("uploader"),
        "licence": info.get("licence"),
        "duration": info.get("duration"),
        "sha256": info.get("sha256"),
        **_download_columns(info),
        **_NO_ERROR,
    }
    return TaskOutcome(VideoStatus.DOWNLOADED, columns, str(info.get("fingerprint")))


def read_extract(folder: Path) -> TaskOutcome | None:
    """Read what a folder of extracted frames says."""
    reader = _reader(folder)
    if reader is None:
        return None
    meta = reader.meta
    if "failure" in meta:
        return _failed(VideoStatus.FAILED, meta, _extract_columns(meta))
    if reader.missing_images() or not reader.names:
        return None
    columns = {
        "frames_dir": folder,
        "frame_count": len(reader.names),
        **_extract_columns(meta),
        **_NO_ERROR,
    }
    return TaskOutcome(VideoStatus.EXTRACTED, columns, str(meta.get("fingerprint")))


def remaining_video(
    store: Store, video_id: str, error: DataminerError, error_class: ErrorClass
) -> TaskOutcome | None:
    """Return what is left of a video whose source is gone for good: its file, or else its frames.

    None if nothing is left, or if the video was refused.
    """
    if error_class in REFUSALS:
        return None
    fetched = read_download(store.video(video_id))
    if fetched and fetched.status == VideoStatus.DOWNLOADED:
        path = str(fetched.columns["video_path"])
        return TaskOutcome(
            fetched.status, fetched.columns | {"video_path": path}, fetched.fingerprint
        )
    folders = (store.recipe(video_id, recipe) for recipe in recipes.of_video(store, video_id))
    found = next((o for o in map(read_extract, folders) if o and not _is_failure(o)), None)
    if found is None:
        return None
    info = read_info_or_none(store.video(video_id)) or {}
    video_columns = {
        "video_path": str(video_file(store.video(video_id), info)),
        "downloaded_with": info.get("made_with", recipe_id("download", None)),
    }
    return _kept_frames(found, video_id, error, error_class, video_columns)


def remaining_frames(
    folder: Path, video_id: str, error: DataminerError, error_class: ErrorClass
) -> TaskOutcome | None:
    """Return the existing frames of a video if extracting them again failed; None if none exist."""
    found = read_extract(folder)
    if found is None or _is_failure(found):
        return None
    return _kept_frames(found, video_id, error, error_class, {})


def _kept_frames(
    found: TaskOutcome,
    video_id: str,
    error: DataminerError,
    error_class: ErrorClass,
    video_columns: Meta,
) -> TaskOutcome:
    hint = f"once that is fixed, `dataminer retry --video {video_id}`, then snakemake"
    columns = {
        **found.columns,
        "frames_dir": str(found.columns["frames_dir"]),
        "error": str(DataminerError(error.message, hint)),
        "error_class": str(error_class),
        **video_columns,
    }
    return TaskOutcome(found.status, columns, found.fingerprint)


def _is_failure(outcome: TaskOutcome) -> bool:
    return outcome.status == VideoStatus.FAILED


def read_filter(folder: Path) -> TaskOutcome | None:
    """Read what a folder of filtered frames says."""
    reader = _reader(folder)
    if reader is None:
        return None
    meta = reader.meta
    if "failure" in meta:
        return _failed(ProjectVideoStatus.FAILED, meta, _filter_columns(meta))
    if reader.missing_images():
        return None
    status = ProjectVideoStatus.FILTERED if reader.names else ProjectVideoStatus.FILTERED_EMPTY
    columns = {
        "filtered_dir": folder,
        "passed_frames": len(reader.names),
        **_filter_columns(meta),
        **_NO_ERROR,
    }
    return TaskOutcome(status, columns, str(meta.get("fingerprint")))


def read_dedup(folder: Path) -> TaskOutcome | None:
    """Read what a project's folder of unique frames says."""
    reader = _reader(folder)
    if reader is None or reader.missing_images() or not has_clusters(folder, reader.meta):
        return None
    made = str(reader.meta.get("fingerprint"))
    columns = {
        "dedup_dir": folder,
        "unique_frames": len(reader.names),
        "dedup_fingerprint": made,
        **_NO_ERROR,
    }
    return TaskOutcome(ProjectStatus.DETECT_READY, columns, made)


def has_clusters(folder: Path, unique: Meta) -> bool:
    """Tell whether a project's table of clusters is there, and belongs to its unique frames.

    Parameters
    ----------
    folder : Path
        The folder of both.
    unique : dict
        The metadata of the table of unique frames.
    """
    try:
        clusters = read_meta(folder / CLUSTERS_FILE)
    except ABSENT_ERRORS:
        return False
    return bool(clusters.get("fingerprint") == unique.get("fingerprint"))


def annotations_seem_whole(folder: Path, images: int) -> bool:
    """Tell whether the annotations of a number of images are there, by their end and number."""
    try:
        with open_file(folder / ANNOTATIONS_FILE) as file:
            file.seek(-_END, os.SEEK_END)
            ends = file.read().rstrip().endswith(b"}")
        counts = [len(names_without_links(folder / name)) for name in ("images", "labels")]
        return ends and min(counts) >= images and _has_classes(folder)
    except (OSError, DamagedFile):
        return False


def _has_classes(folder: Path) -> bool:
    file = os.lstat(folder / DATA_FILE)
    return stat.S_ISREG(file.st_mode) and file.st_size > 0


def sheet_is_whole(path: Path) -> bool:
    """Tell whether a contact sheet is whole, by its end."""
    try:
        with open_file(path) as file:
            file.seek(-len(_JPEG_END), os.SEEK_END)
            return file.read() == _JPEG_END
    except (OSError, DamagedFile):
        return False


def read_annotations_info(folder: Path) -> Meta:
    """Return the info of a project's annotations, from their second line; empty if unreadable."""
    try:
        with open_file(folder / ANNOTATIONS_FILE) as file:
            line = str(file.read(_HEAD).split(b"\n", 2)[1], "utf-8")
        info = json.loads(f"{{{line.rstrip().rstrip(',')}}}")["info"]
    except (*ABSENT_ERRORS, ValueError, LookupError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def read_detect(folder: Path) -> TaskOutcome | None:
    """Read what a project's folder of annotations says."""
    try:
        coco = documents.read_annotations(folder / ANNOTATIONS_FILE)
        classes = read_file(folder / DATA_FILE, MAX_DOCUMENT_BYTES).decode("utf-8", "replace")
    except ABSENT_ERRORS:
        return None
    names = {image["file_name"] for image in coco["images"]}
    if classes != data_yaml([str(entry["name"]) for entry in coco["categories"]]):
        return None
    if names - sizes_in(folder / "images").keys():
        return None
    if sizes_in(folder / "labels") != _label_sizes(coco):
        return None
    made = str(coco["info"].get("fingerprint"))
    columns = {
        "detect_dir": folder,
        "annotations": len(coco["annotations"]),
        "detect_fingerprint": made,
        **_NO_ERROR,
    }
    return TaskOutcome(ProjectStatus.COMPLETE, columns, made)


def judged_by(folder: Path, policy: str) -> str:
    """Return the fingerprint of the policy that decides about a video.

    A video that exists, or that failed for another reason, was accepted by the policy of its time:
    a new policy changes nothing. A video that was refused, or does not exist yet, is judged by
    ``policy``, the present one.
    """
    try:
        info = read_info_or_none(folder)
    except OSError:  # which the job reports
        return policy
    if info is None or is_refused(info):
        return policy
    return str(info.get("policy", policy))


def read_judged(folder: Path, policy: str) -> TaskOutcome | None:
    """Read what a video's folder says; a refusal by another policy has another fingerprint."""
    outcome, info = read_download(folder), read_info_or_none(folder) or {}
    if outcome and is_refused(info) and info.get("policy") != policy:
        return TaskOutcome(outcome.status, outcome.columns, f"policy {info.get('policy')}")
    return outcome


_NO_ERROR: Meta = {"error": None, "error_class": None}


def _download_columns(info: Meta) -> Meta:
    """Return the columns of what a file was made with; frames of an older file do not count."""
    downloaded_with = info.get("made_with")
    if is_refused(info):  # another policy may accept it
        downloaded_with = refused_id(downloaded_with, info.get("policy"))
    return {"downloaded_with": downloaded_with, "extracted_with": None, "extract_fingerprint": None}


def _extract_columns(meta: Meta) -> Meta:
    """Return the columns that identify the frames, and what was lost, mended or converted."""
    return {
        "warning": meta.get("warning"),
        "notes": meta.get("notes", {}),
        "extracted_with": meta.get("made_with"),
        "extract_fingerprint": meta.get("fingerprint"),
    }


def _filter_columns(meta: Meta) -> Meta:
    """Return the columns of the settings and the input of a filter; older tables lack the input."""
    return {
        "filtered_with": meta.get("made_with"),
        "filtered_from": meta.get("filtered_from"),
        "filter_fingerprint": meta.get("fingerprint"),
        "source_frames": meta.get("frames"),
        "source_notes": meta.get("notes", {}),
    }


def _failed(status: str, meta: Meta, origin_columns: Meta) -> TaskOutcome:
    failure = meta["failure"]
    columns = {
        "error": str(DataminerError(failure["message"], failure["hint"])),
        "error_class": failure["error_class"],
        **origin_columns,
    }
    return TaskOutcome(status, columns, str(meta.get("fingerprint")))


def _reader(folder: Path) -> FrameReader | None:
    """Return the reader of a folder's images, or None if there is no frame table."""
    reader = FrameReader(folder)
    try:
        _ = reader.meta, reader.names
    except ABSENT_ERRORS:
        return None
    return reader


def _label_sizes(coco: Meta) -> dict[str, int]:
    """Return the size of the label file of each image, by its name."""
    found = Counter[int]()
    for entry in coco["annotations"]:
        found[entry["image_id"]] += label_size(entry["category_id"] - 1)
    return {f"{Path(i['file_name']).stem}.txt": found[i["id"]] for i in coco["images"]}
