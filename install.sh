#!/usr/bin/env bash
# Set up a virtual environment with dataminer in it: install.sh PYTHON VENV EXTRA
set -euo pipefail
python=$1 venv=$2 extra=$3

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
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
packages=(--constraint constraints.txt --editable ".[$extra]")
with_pip() { pip install --use-pep517 "${packages[@]}"; }
# If PYTHONDONTWRITEBYTECODE is set, each process would compile what is not compiled here and below
with_uv() { "$uv" pip install --compile-bytecode --python "$venv/bin/python" "${packages[@]}"; }

# uv is several times quicker than pip. It does not read pip's settings, so they are passed on, through
# the environment because the address of an index may hold a password.
pip_setting() { sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" <<<"$settings" | tail -n 1; }
give_uv() { [ -z "$2" ] || [ -n "${!1-}" ] || export "$1=$2"; }
find_uv() {
    uv=$(command -v uv) && return
    uv=$venv/bin/uv
    # The cache lasts as long as the installation: home folders on clusters have a quota on files
    export UV_CACHE_DIR=${UV_CACHE_DIR:-$venv/.uv-cache}
    [ -x "$uv" ] || pip install --constraint constraints.txt uv
}

# Until November 2026 this distribution was called dataminer, as another one on the package index is
if "$venv/bin/python" -I -c 'from importlib.metadata import version; version("dataminer")' 2>/dev/null; then
    pip uninstall --yes dataminer
fi

echo "Setting up $venv: a minute or more the first time (PyTorch is large), seconds when nothing changed"
if find_uv; then
    settings=$("$venv/bin/python" -m pip config list | sed 's/\\n/ /g')
    give_uv UV_DEFAULT_INDEX "$(pip_setting index-url)"
    give_uv UV_INDEX "$(pip_setting extra-index-url)"
    give_uv UV_INDEX_STRATEGY unsafe-best-match # as pip does: the newest version of all indexes
    give_uv UV_FIND_LINKS "$(pip_setting find-links | xargs | tr ' ' ,)"
    give_uv SSL_CERT_FILE "$(pip_setting cert)"
    with_uv || {
        echo "uv could not install dataminer (see above); using pip, which takes minutes" >&2
        with_pip
    }
else
    echo "uv could not be installed (see above); using pip, which takes minutes" >&2
    with_pip
fi

rm -rf "$venv/.uv-cache"
"$venv/bin/python" -m compileall -q dataminer

# opencv-python wants the system's libGL, which servers and containers often lack; the headless
# build is the same library without windows, which dataminer never opens.
if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    version=$("$venv/bin/python" -c 'from importlib.metadata import version as v; print(v("opencv-python"))')
    echo "opencv-python does not load here (no libGL?): using opencv-python-headless $version"
    pip uninstall --yes opencv-python
    pip install --no-deps "opencv-python-headless==$version"
    "$venv/bin/python" -c 'import cv2'
fi

for tool in ffprobe:ffmpeg dot:graphviz; do
    command -v "${tool%%:*}" >/dev/null || echo \
        "note: ${tool##*:} is not installed; dataminer works without it (see README, What uses what)"
done
