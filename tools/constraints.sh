#!/usr/bin/env bash
# Write constraints.txt again, for what pyproject.toml asks for: constraints.sh VENV [--upgrade]
# Versions that still fit stay, unless all are to be the newest.
set -euo pipefail
venv=$1
shift
. tools/packages.sh

new=$(mktemp)
trap 'rm -f "$new"' EXIT
find_uv
cp constraints.txt "$new"
"$uv" pip compile --quiet --no-header --no-annotate --python-version 3.11 --extra test \
    --output-file "$new" "$@" pyproject.toml - <<<uv
{
    echo "# Every package that an installation brings, at the versions tested together (pip install -c)."
    # builds of PyTorch are many, and each names the very CUDA libraries that it needs
    # pip installs rapidocr's build of OpenCV beside ours: of one version, their files agree
    sed -E '/^opencv-python==/{p;s/python/python-headless/};/^(cuda-|triton==|nvidia-)/{/^nvidia-ml-py==/!d}; s/\+[a-z0-9.]+$//' "$new"
} >constraints.txt
