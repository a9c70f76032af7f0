"""What a reconciliation repaired, or would repair."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Repair:
    """A row that disagreed with its files.

    Parameters
    ----------
    table : str
        The table of the row.
    row : str
        The video, ``project/video``, or the project.
    before, after : str
        Its status before and now; ``missing`` if there was no row.
    removed : tuple of str
        Damaged outputs that were removed, so that Snakemake makes them again.
    """

    table: str
    row: str
    before: str
    after: str
    removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        removed = f" (removed {', '.join(self.removed)})" if self.removed else ""
        return f"{self.table} {self.row}: {self.before} -> {self.after}{removed}"


@dataclass
class Report:
    """What was repaired, or would be.

    Parameters
    ----------
    repairs : list of Repair
        Row by row, in the order of the work.
    notes : list of str
        What could not be repaired, and why.
    dry_run : bool
        Whether nothing was written.
    """

    repairs: list[Repair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dry_run: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the report as `dataminer sync --json` prints it."""
        fields = asdict(self)
        return {"mends": fields.pop("repairs"), **fields}
