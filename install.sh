#!/usr/bin/env bash
# Set up a virtual environment with dataminer in it: install.sh PYTHON VENV EXTRA [RESOLUTION]
# Its packages are those of constraints.txt, or, by a RESOLUTION of uv (highest, lowest-direct), the newest
# or oldest that pyproject.toml allows.
set -euo pipefail
python=$1 venv=$2 extra=$3 resolution=${4-}

if ! command -v "$python" >/dev/null; then
    echo "dataminer needs Python 3.11 or newer, and there is no $python here." >&2
    echo "Next: install it, or name another one: make PYTHON=python3.12 ..." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "dataminer needs Python 3.11 or newer; $python is $("$python" -V 2>&1)." >&2
    exit 1
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
    echo "Next: install the venv module (Debian, Ubuntu: apt install python3-venv)" >&2
    exit 1
}
. tools/packages.sh

# Until November 2026 this distribution was called dataminer, as another one on the package index is
if "$venv/bin/python" -I -c 'from importlib.metadata import version; version("dataminer")' 2>/dev/null; then
    pip uninstall --yes dataminer
fi

echo "Setting up $venv: a minute or more the first time (PyTorch is large), seconds when nothing changed"
find_uv
if [ -n "$resolution" ]; then
    with_uv --resolution "$resolution" --editable ".[$extra]"
else
    constraints=$(mktemp)
    trap 'rm -f "$constraints"' EXIT
    cp constraints.txt "$constraints"
    # a yt-dlp that `make update-yt-dlp` moved ahead of the tested one stays
    if is_newer "$(version_of yt-dlp)" "$(sed -n 's/^yt-dlp==//p' constraints.txt)"; then
        grep -vE '^yt-dlp(-ejs)?==' constraints.txt >"$constraints"
        for package in yt-dlp yt-dlp-ejs; do
            echo "$package==$(version_of $package)" >>"$constraints"
        done
    fi
    with_uv_or_pip --constraint "$constraints" --editable ".[$extra]"
fi

rm -rf "$venv/.uv-cache"
"$venv/bin/python" -m compileall -q dataminer

# opencv-python wants the system's libGL, which servers and containers often lack; the headless
# build is the same library without windows, which dataminer never opens.
if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    version=$("$venv/bin/python" -c 'from importlib.metadata import version as v; print(v("opencv-python"))')
    echo "opencv-python does not load here (no libGL?): using opencv-python-headless $version"
    pip uninstall --yes opencv-python
    # pip, unlike uv, may have installed both: then they share files that are gone now
    pip install --no-deps --force-reinstall "opencv-python-headless==$version"
    "$venv/bin/python" -c 'import cv2'
fi

for tool in ffprobe:ffmpeg dot:graphviz; do
    command -v "${tool%%:*}" >/dev/null || echo \
        "note: ${tool##*:} is not installed; dataminer works without it (see README, What uses what)"
done
