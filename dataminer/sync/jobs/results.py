"""What finished files of each stage say, and how a failure is written as a result."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, VideoStatus
from dataminer.errors import DamagedFile, DataminerError, ErrorClass, FailedBefore
from dataminer.files import (
    ABSENT,
    SMALL,
    StrPath,
    atomic_write,
    look,
    open_file,
    own_names,
    read_file,
    sizes_in,
)
from dataminer.formats.yolo import data_yaml, label_size
from dataminer.frames.images import FrameReader
from dataminer.frames.table import (
    CLUSTERS_FILE,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    read_meta,
    write_table,
)
from dataminer.provenance import recipes
from dataminer.provenance.fingerprints import recipe_id
from dataminer.store import documents
from dataminer.store.layout import ANNOTATIONS_FILE, DATA_FILE, INFO_FILE, Store
from dataminer.sync.jobs.task import TaskOutcome

Meta = dict[str, Any]

_JPEG_END = b"\xff\xd9"
_HEAD = 2**20  # bytes within which annotations say what they are
_END = 64  # bytes of a file's end that are looked at


def read_info(folder: StrPath) -> Meta | None:
    """Return the contents of a video's ``info.json``; None if there is none, or it is damaged."""
    try:
        return documents.read_info(os.path.join(folder, INFO_FILE))
    except ABSENT:
        return None


def video_file(folder: Path, info: Meta) -> Path:
    """Return the file that ``info.json`` names, beside it: :func:`read_info` looked at its name."""
    return folder / str(info.get("video"))


def read_frames_meta(folder: StrPath) -> Meta | None:
    """Return what is known about a folder's frame table; None if it is absent or damaged."""
    try:
        return read_meta(os.path.join(folder, FRAMES_FILE))
    except ABSENT:
        return None


def read_download(folder: Path) -> TaskOutcome | None:
    """Tell what a video's folder says."""
    info = read_info(folder)
    return None if info is None else of_info(folder, info)


def of_info(folder: Path, info: Meta) -> TaskOutcome | None:
    """Tell what a video's folder says, by what its ``info.json`` holds."""
    if "failure" in info:
        return _failed(VideoStatus.FAILED, info, _downloaded_with(info))
    video = video_file(folder, info)
    found = look(video)
    if not found or not stat.S_ISREG(found.st_mode) or found.st_size != info.get("size_bytes"):
        return None
    columns = {
        "video_path": video,
        "title": info.get("title"),
        "uploader": info.get("uploader"),
        "licence": info.get("licence"),
        "duration": info.get("duration"),
        "sha256": info.get("sha256"),
        **_downloaded_with(info),
        **_NO_ERROR,
    }
    return TaskOutcome(VideoStatus.DOWNLOADED, columns, str(info.get("fingerprint")))


def read_extract(folder: Path) -> TaskOutcome | None:
    """Tell what a folder of extracted frames says."""
    reader = _reader(folder)
    if reader is None:
        return None
    meta = reader.meta
    if "failure" in meta:
        return _failed(VideoStatus.FAILED, meta, _extracted_with(meta))
    if reader.lost() or not reader.names:
        return None
    columns = {
        "frames_dir": folder,
        "frame_count": len(reader.names),
        "warning": meta.get("warning"),
        **_extracted_with(meta),
        **_NO_ERROR,
    }
    return TaskOutcome(VideoStatus.EXTRACTED, columns, str(meta.get("fingerprint")))


def kept(
    store: Store, video_id: str, error: DataminerError, error_class: ErrorClass
) -> TaskOutcome | None:
    """Tell what is left of a video whose source is gone for good: its file, or else its frames.

    None if nothing is, or if it was refused.
    """
    if error_class in _REFUSALS:
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
    info = read_info(store.video(video_id)) or {}
    about = {
        "video_path": str(video_file(store.video(video_id), info)),
        "downloaded_with": info.get("made_with", recipe_id("download", None)),
    }
    return _as_they_are(found, video_id, error, error_class, about)


def kept_frames(
    folder: Path, video_id: str, error: DataminerError, error_class: ErrorClass
) -> TaskOutcome | None:
    """Tell what is left of frames that were to be made anew, which failed: those that there are."""
    found = read_extract(folder)
    if found is None or _is_failure(found):
        return None
    return _as_they_are(found, video_id, error, error_class, {})


def _as_they_are(
    found: TaskOutcome, video_id: str, error: DataminerError, error_class: ErrorClass, about: Meta
) -> TaskOutcome:
    hint = f"once that is mended, `dataminer retry --video {video_id}`, then snakemake"
    columns = {
        **found.columns,
        "frames_dir": str(found.columns["frames_dir"]),
        "error": str(DataminerError(error.message, hint)),
        "error_class": str(error_class),
        **about,
    }
    return TaskOutcome(found.status, columns, found.fingerprint)


def _is_failure(outcome: TaskOutcome) -> bool:
    return outcome.status == VideoStatus.FAILED


def read_filter(folder: Path) -> TaskOutcome | None:
    """Tell what a folder of filtered frames says."""
    reader = _reader(folder)
    if reader is None:
        return None
    meta = reader.meta
    if "failure" in meta:
        return _failed(ProjectVideoStatus.FAILED, meta, _filtered_with(meta))
    if reader.lost():
        return None
    status = ProjectVideoStatus.FILTERED if reader.names else ProjectVideoStatus.FILTERED_EMPTY
    columns = {
        "filtered_dir": folder,
        "passed_frames": len(reader.names),
        **_filtered_with(meta),
        **_NO_ERROR,
    }
    return TaskOutcome(status, columns, str(meta.get("fingerprint")))


def read_dedup(folder: Path) -> TaskOutcome | None:
    """Tell what a project's folder of unique frames says."""
    reader = _reader(folder)
    if reader is None or reader.lost() or not has_clusters(folder, reader.meta):
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
    """Tell whether a project's table of what stands for what is there, and of its unique frames.

    Parameters
    ----------
    folder : Path
        The folder of both.
    unique : dict
        What is known about the table of the unique frames.
    """
    try:
        clusters = read_meta(folder / CLUSTERS_FILE)
    except ABSENT:
        return False
    return bool(clusters.get("fingerprint") == unique.get("fingerprint"))


def annotations_seem_whole(folder: Path, images: int) -> bool:
    """Tell by their end and their number whether the annotations of so many images are there."""
    try:
        with open_file(folder / ANNOTATIONS_FILE) as file:
            file.seek(-_END, os.SEEK_END)
            ends = file.read().rstrip().endswith(b"}")
        counts = [len(own_names(folder / name)) for name in ("images", "labels")]
        return ends and min(counts) >= images and _has_classes(folder)
    except (OSError, DamagedFile):
        return False


def _has_classes(folder: Path) -> bool:
    file = os.lstat(folder / DATA_FILE)
    return stat.S_ISREG(file.st_mode) and file.st_size > 0


def sheet_is_whole(path: Path) -> bool:
    """Tell by its end whether a contact sheet is there."""
    try:
        with open_file(path) as file:
            file.seek(-len(_JPEG_END), os.SEEK_END)
            return file.read() == _JPEG_END
    except (OSError, DamagedFile):
        return False


def read_annotations_info(folder: Path) -> Meta:
    """Return what a project's annotations say of themselves, in the second line; none if unread."""
    try:
        with open_file(folder / ANNOTATIONS_FILE) as file:
            line = str(file.read(_HEAD).split(b"\n", 2)[1], "utf-8")
        info = json.loads(f"{{{line.rstrip().rstrip(',')}}}")["info"]
    except (*ABSENT, ValueError, LookupError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def read_detect(folder: Path) -> TaskOutcome | None:
    """Tell what a project's folder of annotations says."""
    try:
        coco = documents.read_annotations(folder / ANNOTATIONS_FILE)
        classes = read_file(folder / DATA_FILE, SMALL).decode("utf-8", "replace")
    except ABSENT:
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


def raise_failure(meta: Meta | None) -> None:
    """Pass on, as an error, the failure that files of the stage before tell of.

    Raises
    ------
    FailedBefore
        When ``meta`` tells of one.
    """
    failure = (meta or {}).get("failure")
    if failure:
        raise FailedBefore(failure["message"], ErrorClass(failure["error_class"]), failure["hint"])


def judged_by(folder: Path, policy: str) -> str:
    """Return which policy, as a fingerprint, has the last word on a video.

    A video that is there, or that failed for another reason, was judged for good by the policy of
    its day: a new one changes nothing. One that was refused, or is not there yet, is judged by
    ``policy``, the present one: what an older policy refused is looked at again, and nothing else.
    """
    try:
        info = read_info(folder)
    except OSError:  # for the job to tell of
        return policy
    if info is None or _is_refused(info):
        return policy
    return str(info.get("policy", policy))


def read_judged(folder: Path, policy: str) -> TaskOutcome | None:
    """Tell what a video's folder says; what another policy refused was made with other settings."""
    outcome, info = read_download(folder), read_info(folder) or {}
    if outcome and _is_refused(info) and info.get("policy") != policy:
        return TaskOutcome(outcome.status, outcome.columns, f"policy {info.get('policy')}")
    return outcome


def failed_info(marks: Meta) -> Callable[[Path, DataminerError, ErrorClass], None]:
    """Return a writer of ``info.json`` for a video that could not be downloaded."""

    def write(folder: Path, error: DataminerError, error_class: ErrorClass) -> None:
        meta = _failure_meta(marks, error, error_class)
        with atomic_write(folder / INFO_FILE) as partial:
            partial.write_text(json.dumps(meta, indent=1, sort_keys=True), encoding="utf-8")

    return write


def failed_frames(marks: Meta) -> Callable[[Path, DataminerError, ErrorClass], None]:
    """Return a writer of an empty ``frames.parquet`` for a video that gives no frames."""

    def write(folder: Path, error: DataminerError, error_class: ErrorClass) -> None:
        meta = _failure_meta(marks, error, error_class)
        write_table(folder / FRAMES_FILE, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, meta)

    return write


_REFUSALS = {ErrorClass.POLICY, ErrorClass.UNCHECKED}


def _is_refused(info: Meta) -> bool:
    return info.get("failure", {}).get("error_class") in _REFUSALS


_NO_ERROR: Meta = {"error": None, "error_class": None}


def _downloaded_with(info: Meta) -> Meta:
    """Say what a file was made with; the frames of an older one are none of its own."""
    recipe_id = info.get("made_with")
    if _is_refused(info):  # another policy may let it in
        recipe_id = f"{recipe_id} {info.get('policy')}"
    return {"downloaded_with": recipe_id, "extracted_with": None, "extract_fingerprint": None}


def _extracted_with(meta: Meta) -> Meta:
    """Say which frames there are: what is made of them can tell whether it was made of these."""
    return {
        "extracted_with": meta.get("made_with"),
        "extract_fingerprint": meta.get("fingerprint"),
    }


def _filtered_with(meta: Meta) -> Meta:
    """Say what frames were filtered with, and from which; older tables do not tell the latter."""
    return {
        "filtered_with": meta.get("made_with"),
        "filtered_from": meta.get("filtered_from"),
        "filter_fingerprint": meta.get("fingerprint"),
        "source_frames": meta.get("frames"),
    }


def _failed(status: str, meta: Meta, recipe_id: Meta) -> TaskOutcome:
    failure = meta["failure"]
    columns = {
        "error": str(DataminerError(failure["message"], failure["hint"])),
        "error_class": failure["error_class"],
        **recipe_id,
    }
    return TaskOutcome(status, columns, str(meta.get("fingerprint")))


def _failure_meta(marks: Meta, error: DataminerError, error_class: ErrorClass) -> Meta:
    failure = {"message": error.message, "error_class": str(error_class), "hint": error.hint}
    return {"failure": failure, **marks}


def _reader(folder: Path) -> FrameReader | None:
    """Return the reader of a folder's images, or None where there is no frame table."""
    reader = FrameReader(folder)
    try:
        _ = reader.meta, reader.names
    except ABSENT:
        return None
    return reader


def _label_sizes(coco: Meta) -> dict[str, int]:
    """Return how large the label file of each image is, by its name."""
    found = Counter[int]()
    for entry in coco["annotations"]:
        found[entry["image_id"]] += label_size(entry["category_id"] - 1)
    return {f"{Path(i['file_name']).stem}.txt": found[i["id"]] for i in coco["images"]}
