#!/usr/bin/env bash
# Move yt-dlp ahead of constraints.txt, to the newest release, if that works: update_yt_dlp.sh VENV
# The release is tried in a folder of its own first: if it fails, the environment stays as it is.
set -euo pipefail
venv=$1 python=$1/bin/python
. tools/packages.sh

trial=$(mktemp -d)
trap 'rm -rf "$trial" "$venv/.uv-cache"' EXIT
into_trial() { with_uv_or_pip --quiet --no-deps --upgrade --target "$trial" "$@"; }

find_uv
before=$(version_of yt-dlp)
into_trial yt-dlp
after=$(version_of yt-dlp "$trial")
if ! is_newer "$after" "$before"; then
    echo "yt-dlp $before stays: the newest release is $after"
    exit
fi
# what solves YouTube's challenges: yt-dlp takes none but the one version that it names
solver=$("$python" -I -c '
import re, sys
from importlib.metadata import distributions
(found,) = distributions(name="yt-dlp", path=sys.argv[1:])
names = [re.match(r"yt-dlp-ejs==([\w.]+)", text) for text in found.requires or ()]
print(next((it[0] for it in names if it), "yt-dlp-ejs"))' "$trial")
into_trial "$solver"

echo "yt-dlp $after is out; does it work with dataminer?"
if ! PYTHONPATH=$trial "$python" -m tools.check_yt_dlp; then
    echo "yt-dlp $before stays: $after does not work with this dataminer (see above)." >&2
    echo "Next: update dataminer (git pull, make install), or try again with the next yt-dlp" >&2
    exit 1
fi
trap '' HUP INT TERM # between removing the old and installing the new, there would be neither
with_uv_or_pip --quiet --no-deps "yt-dlp==$after" "$solver"
echo "yt-dlp: $before -> $(version_of yt-dlp), yt-dlp-ejs $(version_of yt-dlp-ejs)"
