#!/usr/bin/env bash
# Brings constraints.txt up to what pyproject.toml asks for: the exact versions that make and CI install, for Python 3.11
# to 3.13 on any platform. `scripts/lock.sh --upgrade` takes the newest of everything. Needs uv, which is in .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" uv pip compile pyproject.toml --universal --python-version 3.11 --extra dev \
    --no-annotate --no-header --quiet --output-file constraints.txt "$@"
# A constraint only speaks about what gets installed anyway, so the markers say nothing; without them old pips read the file too.
sed -i 's/ *;.*//' constraints.txt
if [[ -n $(cut -d= -f1 constraints.txt | sort | uniq -d) ]]; then
    echo "error: two versions of one package; constraints.txt needs its markers" >&2
    exit 1
fi
sed -i '1i # Written by scripts/lock.sh: the versions make and CI install. Not a promise about what crewmeter works with; pyproject.toml is.' constraints.txt
