"""Pictures with text, whose area is known."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# of DejaVu Sans, which matplotlib contains
WRITINGS = {
    "latin": "The quick brown fox",
    "cyrillic": "Съешь ещё этих булок",
    "greek": "Ξεσκεπάζω τη φθορά",
    "hebrew": "שלום עולם וברכה",
    "georgian": "საქართველო და მისი",
}


def write_on(
    picture: NDArray[np.uint8], text: str, at: tuple[int, int], height: int, colour: str = "white"
) -> tuple[NDArray[np.uint8], float]:
    """Return a picture with text, and the share that the text's upright box has of it.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
        Stays as it is.
    text : str
        One line or several.
    at : tuple of int
        The left upper corner of the text.
    height : int
        The size of the font in pixels.
    colour : str
        Of the letters.
    """
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(str(file), height)  # the oldest Pillow takes no Path
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = pen.multiline_textbbox(at, text, font=font)
    assert 0 <= left < right <= image.width and 0 <= top < bottom <= image.height, "it does not fit"
    pen.multiline_text(at, text, fill=colour, font=font)
    share = (right - left) * (bottom - top) / (image.width * image.height)
    return np.asarray(image, np.uint8), float(share)
