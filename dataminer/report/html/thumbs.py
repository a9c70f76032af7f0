"""Small pictures inside the page, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

from markupsafe import Markup
from PIL.Image import Resampling

from dataminer.errors import DataminerError
from dataminer.files.reading import path_in, read_file
from dataminer.frames.image_decoding import check_declared_pixels, open_image
from dataminer.frames.images import FrameReader
from dataminer.provenance import recipes
from dataminer.report.data.frames import Shot
from dataminer.report.data.objects import AnnotatedFrame
from dataminer.store.layout import Store

BUDGET = 2_200_000
"""Total size of a page's small pictures, in bytes of base64."""
_QUALITY = 72


class Thumbnails:
    """Makes small pictures until their budget is spent.

    Parameters
    ----------
    store : Store
        Where the frames are.
    project : str
        The project whose frames are shown.
    budget : int
        Maximum number of bytes, as base64.
    """

    def __init__(self, store: Store, project: str, budget: int = BUDGET) -> None:
        self._store, self._project = store, project
        self.left = budget
        self.missing = 0

    def of_video(self, shot: Shot, width: int) -> Markup | None:
        """Return a frame from its video's folder; see :meth:`of`."""

        def read() -> bytes:
            folder = recipes.of_project(self._store, self._project, shot.video_id)
            with FrameReader(folder) as reader:
                return reader.read_checked(shot.file_name)

        return self.of(read, width)

    def of_dataset(self, project: str, drawn: AnnotatedFrame, width: int) -> Markup | None:
        """Return a frame from a project's dataset; see :meth:`of`."""
        folder = self._store.detect(project) / "images"

        def read() -> bytes:
            data = read_file(path_in(folder, drawn.shot.file_name))
            check_declared_pixels(data, drawn.width * drawn.height)
            return data

        return self.of(read, width)

    def of(self, read: Callable[[], bytes], width: int) -> Markup | None:
        """Return a picture as a data URI; None if it is missing or exceeds the budget.

        Parameters
        ----------
        read : callable
            Returns the picture's bytes.
        width : int
            Width of the small picture in pixels; the aspect ratio is kept.
        """
        try:
            data = _small(read(), width)
        except (OSError, DataminerError, ValueError):
            self.missing += 1
            return None
        uri = Markup(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}")
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri


def _small(data: bytes, width: int) -> bytes:
    with open_image(data) as source:
        height = max(1, min(2 * width, round(source.height * width / source.width)))
        source.draft("RGB", (width, height))  # a JPEG is decoded at a smaller size right away
        picture = source.convert("RGB").resize((width, height), Resampling.BOX, reducing_gap=2)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return out.getvalue()
