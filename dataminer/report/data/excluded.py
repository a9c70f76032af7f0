"""The frames that dedup left out, because they are near a reference picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.formats.contact_sheet import spread
from dataminer.frames.table import read_meta, read_table
from dataminer.report.data.frames import FrameLookup, Shot
from dataminer.stages.dedup.references.listing import ReferenceFile, ReferencePictures
from dataminer.stages.dedup.references.pictures import picture_name, read_picture
from dataminer.stages.dedup.references.table import EXCLUDED_FILE, EXCLUDED_SCHEMA

_MOST_PAIRS = 12


@dataclass(frozen=True)
class ReferencePair:
    """A frame that was left out, and the picture that it is near.

    Parameters
    ----------
    frame : Shot
        The frame; its note says how near.
    given, name : str
        The entry of ``dedup.exclude``, and the picture's path relative to it.
    mirrored : bool
        Whether the frame shows its mirror image.
    file : ReferenceFile or None
        The picture, or its archive; None if the entry does not lead to it now.
    member : str or None
        Its name in the archive.
    """

    frame: Shot
    given: str
    name: str
    mirrored: bool
    file: ReferenceFile | None
    member: str | None

    def read(self) -> bytes:
        """Return the picture as a JPEG.

        Raises
        ------
        OSError, ValueError
            It is missing, or no image.
        """
        if self.file is None:
            raise FileNotFoundError(self.name)
        return read_picture(self.file, self.member)


@dataclass(frozen=True)
class ExcludedFrames:
    """What dedup left out.

    Parameters
    ----------
    frames : int
        How many frames.
    references, unreadable : int
        How many pictures they were compared with, and how many could not be decoded.
    by_entry : list of tuple
        Each entry of ``dedup.exclude``, and how many frames are near one of its pictures.
    pairs : list of ReferencePair
        Examples.
    """

    frames: int
    references: int
    unreadable: int
    by_entry: list[tuple[str, int]]
    pairs: list[ReferencePair]


def read_excluded_frames(
    dedup_dir: Path, lookup: FrameLookup, references: ReferencePictures | None
) -> ExcludedFrames | None:
    """Read which frames of a project were left out; None if they were not compared.

    Parameters
    ----------
    dedup_dir : Path
        The folder of ``excluded.parquet``.
    lookup : FrameLookup
        Finds the frames.
    references : ReferencePictures or None
        The pictures that may be shown: no others, whatever the table says.
    """
    path = dedup_dir / EXCLUDED_FILE
    if not path.is_file():
        return None
    table, meta = read_table(path, schema=EXCLUDED_SCHEMA), read_meta(path)
    entries = meta.get("exclude") or []
    counts = Counter[str](table["excluded_by"].to_pylist())
    rows = [table.slice(row, 1).to_pylist()[0] for row in spread(range(len(table)), _MOST_PAIRS)]
    found = (_pair(row, lookup, references) for row in rows)
    return ExcludedFrames(
        frames=len(table),
        references=int(meta.get("reference_pictures", 0)),
        unreadable=int(meta.get("unreadable_references", 0)),
        by_entry=[(entry, counts[entry]) for entry in dict.fromkeys([*entries, *counts])],
        pairs=[pair for pair in found if pair],
    )


def _pair(
    row: dict[str, Any], lookup: FrameLookup, references: ReferencePictures | None
) -> ReferencePair | None:
    frame = lookup.shot(row["video_id"], row["frame_index"], _nearness(row))
    if frame is None:
        return None
    given, reference, member = row["excluded_by"], row["reference"], row["member"]
    file = references.find(given, reference) if references else None
    name = picture_name(reference, member)
    return ReferencePair(frame, given, name, row["mirrored"], file, member)


def _nearness(row: dict[str, Any]) -> str:
    bits = f"{row['distance']:.0f} bits"
    return bits if row["changed"] is None else f"{bits}, {row['changed']:.1%} changed"
