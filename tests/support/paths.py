"""Where the repository and the commands of its virtual environment are."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CACHE = ROOT / ".cache"
"""What tests make once and keep, such as trained models."""
