#!/usr/bin/env bash
# Rewrites constraints.txt: the exact versions that make and CI install, for Python 3.11 to 3.13 on any platform.
# Run it when a dependency changes or gets old, then run `.ci/run`, and commit the result. Needs uv (only here).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv pip compile pyproject.toml --universal --python-version 3.11 --extra dev --extra services --extra clickhouse \
    --no-annotate --no-header --quiet --upgrade --output-file constraints.txt "$@"
# A constraint only speaks about what gets installed anyway, so the markers say nothing; without them old pips read the file too.
sed -i 's/ *;.*//' constraints.txt
if [[ -n $(cut -d= -f1 constraints.txt | sort | uniq -d) ]]; then
    echo "error: two versions of one package; constraints.txt needs its markers" >&2
    exit 1
fi
sed -i '1i # Written by scripts/lock.sh: the versions make and CI install. Not a promise about what crewmeter works with; pyproject.toml is.' constraints.txt
