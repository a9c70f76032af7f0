"""The targets of the Makefile install what they use."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.paths import ROOT


def test_docs_installs_the_packages_that_draw_pages(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["make", "--dry-run", "docs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    (install,) = (line for line in lines if line.startswith("./install.sh") and "test" in line)
    assert lines.index(install) < lines.index("docs/draw.sh")
