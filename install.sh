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
# compiled at once, and not by each process where PYTHONDONTWRITEBYTECODE is set
with_uv() { "$uv" pip install --compile-bytecode --python "$venv/bin/python" "${packages[@]}"; }

# uv takes seconds where pip takes minutes. It does not read pip's settings, so it gets them here;
# through the environment, because an index's address may hold a password.
pip_setting() { sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" <<<"$settings" | tail -n 1; }
give_uv() { [ -z "$2" ] || [ -n "${!1-}" ] || export "$1=$2"; }
find_uv() {
    uv=$(command -v uv) && return
    uv=$venv/bin/uv
    # a cache beside what is installed, for as long as that takes: homes on clusters count their files
    export UV_CACHE_DIR=${UV_CACHE_DIR:-$venv/.uv-cache}
    [ -x "$uv" ] || pip install --constraint constraints.txt uv
}

echo "Setting up $venv: a minute or more the first time (PyTorch is large), seconds when nothing changed"
if find_uv; then
    settings=$("$venv/bin/python" -m pip config list | sed 's/\\n/ /g')
    give_uv UV_DEFAULT_INDEX "$(pip_setting index-url)"
    give_uv UV_INDEX "$(pip_setting extra-index-url)"
    give_uv UV_INDEX_STRATEGY unsafe-best-match # as pip: the best version, whichever index has it
    give_uv UV_FIND_LINKS "$(pip_setting find-links | xargs | tr ' ' ,)"
    give_uv SSL_CERT_FILE "$(pip_setting cert)"
    with_uv || {
        echo "uv could not install dataminer (see above); trying with pip, which takes minutes" >&2
        with_pip
    }
else
    echo "uv is not to be had here; installing with pip, which takes minutes" >&2
    with_pip
fi

rm -rf "$venv/.uv-cache"

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
