#!/usr/bin/env bash
# Installs this tree, editable, with the named extras into .venv, at the versions of constraints.txt.
#
#   scripts/setup.sh dev            what `make test` and `make lint` need
#   scripts/setup.sh crewai,sidecar what `make demo` needs
#
# uv does it in seconds where pip takes minutes; it comes from PATH or from PyPI, and pip is the fall-back where uv has
# no wheel. PYTHON names another interpreter, CREWMETER_INSTALLER=pip another installer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras=$1
python=${PYTHON:-python3}
venv_python=.venv/bin/python
installer=${CREWMETER_INSTALLER:-uv}

if [[ ! -x $venv_python ]]; then
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
        echo "error: $("$python" --version 2>&1) found, but crewai runs on Python 3.11 to 3.13" >&2
        echo "hint:  name another one: make PYTHON=python3.12 demo" >&2
        exit 2
    }
    "$python" -m venv .venv
fi

pip() { "$venv_python" -m pip --quiet --disable-pip-version-check "$@"; }

find_uv() { # prints the path of a uv, installed if need be; fails where there is none
    command -v uv && return
    [[ -x .venv/bin/uv ]] || pip install --only-binary uv --constraint constraints.txt uv >&2 || return 1
    echo .venv/bin/uv
}

if [[ $installer == uv ]] && uv=$(find_uv); then
    "$uv" pip install --quiet --python "$venv_python" --constraint constraints.txt --editable ".[$extras]"
else
    pip install --constraint constraints.txt --editable ".[$extras]"
fi
