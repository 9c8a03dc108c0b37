#!/usr/bin/env bash
# Try the newest release of every dependency, and say which tests break. Meant for a schedule.
# Needs uv (a developer's environment has it) and a package index. Prints one line a package that
# differs from constraints.txt, then the test runner's own report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BIN:-.venv/bin}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

"$bin/uv" venv --quiet --python "$bin/python" "$home/venv"
"$bin/uv" pip install --quiet --python "$home/venv/bin/python" --upgrade --editable '.[dev]'
"$bin/uv" pip freeze --quiet --python "$home/venv/bin/python" --exclude-editable | sort >"$home/newest"
grep -v '^#' constraints.txt | sort >"$home/locked"
echo "differs from the lock:"
comm -23 "$home/newest" "$home/locked" | sed 's/^/  /'
# The SDKs that CrewAI's pins keep out have an environment of their own, made anew here.
rm -rf "${XDG_CACHE_HOME:-$HOME/.cache}/crewmeter/newest-sdks"
"$bin/python" -m pytest -q tests/e2e/test_newest_sdks.py || failed=1
"$home/venv/bin/python" -m pytest -q -n 2 -m "not slow and not services" "$@" tests/tracer tests/e2e
exit "${failed:-0}"
