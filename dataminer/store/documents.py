"""The JSON of a store: files, and the metadata of tables.

Other users may be able to write in a store, so all JSON is checked when it is read. If it does not
fit its model, it is damaged; callers that can continue without it treat it as absent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NotRequired

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from dataminer.errors import DamagedFile, ErrorClass
from dataminer.files.links import StrPath
from dataminer.files.reading import MAX_DOCUMENT_BYTES, is_plain_name, read_file
from dataminer.text import cut, whole_characters

_LONGEST = 100  # maximum characters of the names of invalid keys
# a million images of 400 bytes each, with 10 objects of 150 bytes in each, take 1.9 GB
_MOST_LABELS = 2**31
_MODEL = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


def _plain_name(name: str) -> str:
    if not is_plain_name(name):
        raise ValueError("leads out of its folder, or is not a plain name")
    return name


def _whole_characters(value: Any) -> Any:
    """Replace lone surrogates, which titles and file names may contain."""
    return whole_characters(value) if isinstance(value, str) else value


_PlainName = Annotated[str, AfterValidator(_plain_name)]
# Text for a column, which may contain neither NUL nor lone surrogates
_Word = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
_Text = Annotated[_Word, BeforeValidator(_whole_characters)]
_Class = Annotated[str, AfterValidator(ErrorClass)]
_Count = Annotated[int, Ge(0), Lt(2**63)]
# Of a kind of note; a newer version may have more kinds
_Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_Frames = Annotated[int, Ge(0), Lt(2**31)]  # within the range of their columns, int32 and `integer`
_Number = Annotated[float, Ge(-(2**31)), Le(2**31)]  # of pixels, of seconds
_Side = Annotated[int, Gt(0), Lt(2**31)]
_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
# from a table's folder, which is at most four levels below the store
_ArchivePath = Annotated[
    str, StringConstraints(pattern=r"^(\.\./){0,4}([A-Za-z0-9_-][^/\x00]*/)*frames\.tar$")
]


@with_config(_MODEL)
class _Failure(TypedDict):
    message: _Text
    error_class: _Class
    hint: _Text


@with_config(_MODEL)
class _Info(TypedDict):
    failure: NotRequired[_Failure]
    video: NotRequired[_PlainName]
    size_bytes: NotRequired[_Count]
    sha256: NotRequired[_Word | None]
    fingerprint: NotRequired[_Word | None]
    made_with: NotRequired[_Word | None]
    policy: NotRequired[_Word | None]
    settings: NotRequired[dict[str, Any] | None]
    title: NotRequired[_Text | None]
    uploader: NotRequired[_Text | None]
    licence: NotRequired[_Text | None]
    upload_date: NotRequired[_Text | None]
    url: NotRequired[_Text | None]
    duration: NotRequired[_Number | None]


@with_config(_MODEL)
class _Archive(TypedDict):
    path: _ArchivePath
    bytes: _Count


@with_config(_MODEL)
class _TableMeta(TypedDict):
    failure: NotRequired[_Failure]
    archive: NotRequired[_Archive]
    fingerprint: NotRequired[_Word | None]
    filtered_from: NotRequired[_Id | None]
    made_with: NotRequired[_Word | None]
    settings: NotRequired[dict[str, Any] | None]
    seen: NotRequired[list[str]]
    frames: NotRequired[_Frames]
    passed: NotRequired[_Frames]
    unique: NotRequired[_Frames]
    warning: NotRequired[_Word | None]
    notes: NotRequired[Annotated[dict[_Kind, _Count], Len(0, 100)]]
    rejected: NotRequired[dict[_Word, _Count]]
    model: NotRequired[_Word | None]


@with_config(_MODEL)
class _SeenMeta(TypedDict):
    mark: NotRequired[str]
    model: NotRequired[str]
    names: NotRequired[list[str]]
    frames: NotRequired[list[_Frames]]
    dimension: NotRequired[_Side]
    scale: NotRequired[float]
    bias: NotRequired[float | None]


@with_config(_MODEL)
class _Image(TypedDict):
    id: int
    file_name: _PlainName
    width: _Side
    height: _Side
    video_id: NotRequired[_Id]
    frame_index: NotRequired[_Frames]
    pts_time: NotRequired[_Number]


@with_config(_MODEL)
class _Annotation(TypedDict):
    image_id: int
    category_id: int
    bbox: Annotated[list[_Number], Len(4, 4)]
    score: NotRequired[_Number]


@with_config(_MODEL)
class _Category(TypedDict):
    id: int
    name: str


@with_config(_MODEL)
class _AnnotationsInfo(TypedDict):
    fingerprint: NotRequired[_Word | None]


@with_config(_MODEL)
class _Annotations(TypedDict):
    info: _AnnotationsInfo
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@with_config(_MODEL)
class _State(TypedDict):
    source: NotRequired[str]
    etag: NotRequired[str | None]
    last_modified: NotRequired[str | None]
    size: NotRequired[_Count | None]


@with_config(_MODEL)
class _Shard(TypedDict):
    names: list[str]
    boxes: dict[str, list[Annotated[list[int | float], Len(6, 6)]]]


_INFO = TypeAdapter(_Info)
_TABLE_META = TypeAdapter(_TableMeta)
_SEEN_META = TypeAdapter(_SeenMeta)
_ANNOTATIONS = TypeAdapter(_Annotations)
_STATE = TypeAdapter(_State)
_SHARD = TypeAdapter(_Shard)


def read_info(path: StrPath) -> dict[str, Any]:
    """Read a video's ``info.json``.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedFile
        If it is not valid.
    """
    return _checked(path, _INFO, read_file(path, MAX_DOCUMENT_BYTES))


def table_meta(path: StrPath, text: bytes) -> dict[str, Any]:
    """Check the metadata of the table at ``path``.

    Raises
    ------
    DamagedFile
        If no stage wrote it.
    """
    return _checked(path, _TABLE_META, text)


def seen_meta(path: StrPath, text: bytes) -> dict[str, Any]:
    """Check the metadata of a table of model outputs; see :func:`table_meta`."""
    return _checked(path, _SEEN_META, text)


def read_annotations(path: Path) -> dict[str, Any]:
    """Read annotations in COCO's format, and check that all that they refer to exists.

    Raises
    ------
    FileNotFoundError
        If there are none.
    DamagedFile
        If the file contains something else.
    """
    coco = _checked(path, _ANNOTATIONS, read_file(path, _MOST_LABELS))
    images, classes = ({entry["id"] for entry in coco[key]} for key in ("images", "categories"))
    for found in coco["annotations"]:
        if found["image_id"] not in images or found["category_id"] not in classes:
            raise DamagedFile(path, "an annotation names an image or a class that is missing")
    return coco


def read_shard(path: Path) -> dict[str, Any]:
    """Read the boxes of a shard: class names, and rows by file name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DamagedFile
        If it contains something else.
    """
    return _checked(path, _SHARD, read_file(path, _MOST_LABELS))


def read_transfer_state(path: Path) -> dict[str, Any]:
    """Read which version of a remote file an interrupted transfer belongs to.

    Raises
    ------
    FileNotFoundError
        If there is no record of it.
    DamagedFile
        If the file contains something else.
    """
    return _checked(path, _STATE, read_file(path, MAX_DOCUMENT_BYTES))


def _checked(path: StrPath, model: TypeAdapter[Any], text: bytes) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = model.validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = cut(".".join(map(str, first["loc"])), _LONGEST)
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise DamagedFile(path, reason) from None
    except (ValueError, RecursionError) as error:
        reason = "it is empty" if not text else f"it is not JSON ({type(error).__name__})"
        raise DamagedFile(path, reason) from None
    return checked
