"""The report's CSS and JavaScript, and the Content-Security-Policy of pages."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path


def read_asset(path: Path) -> str:
    """Return a file of CSS or JavaScript, beginning on a line of its own."""
    return "\n" + path.read_text(encoding="utf-8")


CSS = read_asset(Path(__file__).with_name("report.css"))
# Without it, the page shows all pages of a gallery or a table, one below the other.
JS = read_asset(Path(__file__).with_name("report.js"))


def policy(css: str = CSS, js: str = JS) -> str:
    """Return the Content-Security-Policy of a page: nothing but what is in the page itself.

    Parameters
    ----------
    css, js : str
        The content of the page's ``style`` and ``script``. A browser ignores any other, as well as
        attributes with style or events.
    """
    return (
        f"default-src 'none'; img-src data:; style-src {_source(css)}; script-src {_source(js)};"
        " base-uri 'none'; form-action 'none'"
    )


def _source(code: str) -> str:
    if not code:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
