"""What opening a video file may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dataminer.errors import ErrorClass, PermanentError
from dataminer.memory import within_memory

_T = TypeVar("_T")


@dataclass(frozen=True)
class FileLimits:
    """What a file may cost before its first frame is decoded.

    Parameters
    ----------
    section : str
        The section of the configuration that sets these limits, for error messages.
    max_megapixels : float
        Declared size of a frame. The decoder refuses larger frames that were not declared.
    max_memory_mb : float
        Memory for everything that is read first: index, attachments, first frame.
    """

    section: str = "download"
    max_megapixels: float = 100.0
    max_memory_mb: float = 256.0

    @property
    def decoder_options(self) -> dict[str, str]:
        """Options that make the decoder enforce ``max_megapixels``."""
        return {"max_pixels": str(int(self.max_megapixels * 1e6))}

    def check_megapixels(self, megapixels: float, name: str) -> None:
        """Raise an error if the frames of a file are too large."""
        if megapixels > self.max_megapixels:
            what = f"{name} has {megapixels:.3g} megapixels, more"
            raise self.exceeded(what, "max_megapixels", self.max_megapixels)

    def memory_exceeded(self, path: Path) -> PermanentError:
        """Return the error about a file that needs too much memory."""
        what = f"{path.name} needs more MB of memory"
        return self.exceeded(what, "max_memory_mb", self.max_memory_mb)

    def within_memory(self, path: Path, function: Callable[..., _T], *args: Any) -> _T:
        """Call a function that may allocate up to ``max_memory_mb`` for a file.

        libav allocates whatever an index, an attachment or a frame declares: gigabytes for a file
        of a few kB. Not suitable for decoding, as libav takes a lack of memory for damage.

        Raises
        ------
        PermanentError
            UNSUPPORTED if it needs more.
        """
        try:
            return within_memory(self.max_memory_mb, function, *args)
        except MemoryError as error:
            raise self.memory_exceeded(path) from error

    def exceeded(self, what: str, setting: str, limit: float) -> PermanentError:
        """Return the error about a file that exceeds a limit of this section."""
        name = f"{self.section}.{setting}"
        also = f", extract.{setting}" if name == "download.max_megapixels" else ""
        return PermanentError(
            f"{what} than {name} = {limit:g}",
            ErrorClass.UNSUPPORTED,
            f"if you trust the file, raise {name}{also} and mem_mb of rule {self.section}, then"
            " `dataminer retry --class unsupported`",
        )


DEFAULT_LIMITS = FileLimits()
