# Sourced: how packages get into the virtual environment $venv.
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

# uv is several times quicker than pip. It does not read pip's settings, so they are passed on, through
# the environment because the address of an index may hold a password.
pip_setting() { sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" <<<"$settings" | tail -n 1; }
give_uv() { [ -z "$2" ] || [ -n "${!1-}" ] || export "$1=$2"; }
find_uv() {
    if ! uv=$(command -v uv); then
        uv=$venv/bin/uv
        # The cache lasts as long as the installation: home folders on clusters have a quota on files
        export UV_CACHE_DIR=${UV_CACHE_DIR:-$venv/.uv-cache}
        if ! [ -x "$uv" ] && ! pip install --constraint constraints.txt uv; then
            echo "uv could not be installed (see above); using pip, which takes minutes" >&2
            uv=
            return
        fi
    fi
    settings=$("$venv/bin/python" -m pip config list | sed 's/\\n/ /g')
    give_uv UV_DEFAULT_INDEX "$(pip_setting index-url)"
    give_uv UV_INDEX "$(pip_setting extra-index-url)"
    give_uv UV_INDEX_STRATEGY unsafe-best-match # as pip does: the newest version of all indexes
    give_uv UV_FIND_LINKS "$(pip_setting find-links | xargs | tr ' ' ,)"
    give_uv SSL_CERT_FILE "$(pip_setting cert)"
}

# If PYTHONDONTWRITEBYTECODE is set, each process would compile what is not compiled here
with_uv() { "$uv" pip install --compile-bytecode --python "$venv/bin/python" "$@"; }
with_uv_or_pip() {
    if [ -n "$uv" ]; then
        with_uv "$@" && return
        echo "uv could not install this (see above); using pip, which may take minutes" >&2
    fi
    pip install --use-pep517 "$@"
}

version_of() { # PACKAGE [FOLDER]: its version in the environment, or in a folder of packages
    "$venv/bin/python" -I -c '
import sys
from importlib.metadata import distributions
name, *path = sys.argv[1:]
found = distributions(name=name, path=path or sys.path)
print(next((it.version for it in found), ""))' "$@"
}
is_newer() { # VERSION OTHER
    [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]
}
