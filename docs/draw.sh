#!/usr/bin/env bash
# Draw the pictures of the docs: run by `make docs`, after `make demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v dot >/dev/null; then
    echo "docs/draw.sh needs graphviz's dot. Next: install graphviz (Debian: apt install graphviz)" >&2
    exit 1
fi

# The graphs: of a project of ten short videos, in a folder and a database that go away again.
ten=$PWD/.cache/ten
inside() { (cd "$ten" && unset DATABASE_URL DATAMINER_PGDATA && "$@"); }
take_away() {
    inside dataminer db stop
    inside sh -c 'rm -rf "$(readlink -f .dataminer/postgres)"'
    rm -rf "$ten"
}
mkdir -p "$ten/config" "$ten/videos"
echo '{project: ten, input: {files: [videos]}}' >"$ten/config/config.yaml"
PYTHONPATH=. python - "$ten/videos" <<'PYTHON'
import sys
from pathlib import Path

from tests.support.videos import make_video

for number in range(1, 11):
    make_video(Path(sys.argv[1]) / f"video{number:02}.mp4", frames=25 * number)
PYTHON
trap take_away EXIT
inside dataminer populate
for graph in rulegraph dag; do
    inside snakemake --snakefile ../../Snakefile --$graph >"$ten/$graph.dot"
    dot -Grankdir=LR -Tsvg "$ten/$graph.dot" >docs/$graph.svg
done

python -m tools.architecture --dot | dot -Tsvg >docs/architecture.svg

# The contact sheet: of the demo's project.
python docs/draw.py
python docs/quality.py
# The report and the live page.
if command -v chromium >/dev/null; then
    PYTHONPATH=. python docs/pages.py
else
    echo "docs/draw.sh: the report, the preview and the live page were not drawn: chromium is missing" >&2
fi
ls -l docs/*.svg docs/*.jpg
