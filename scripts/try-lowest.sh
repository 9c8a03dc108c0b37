#!/usr/bin/env bash
# Try the lowest release of every direct dependency that pyproject.toml allows: what it promises must hold. The
# weekly workflow runs it. Needs uv (a developer's environment has it) and a package index. Without CrewAI, whose own
# lowest version tests/e2e/matrix.py has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BIN:-.venv/bin}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

"$bin/uv" venv --quiet --python "$bin/python" "$home/venv"
install=("$bin/uv" pip install --quiet --python "$home/venv/bin/python")
"${install[@]}" --resolution lowest-direct --editable '.[sidecar,clickhouse,dashboards,prices]'
# The tests' own tools, as locked: they are not what is tried.
"${install[@]}" --constraint <(grep -E '^(pytest|pytest-xdist|jsonschema|hypothesis|httpx)==' constraints.txt) \
    pytest pytest-xdist jsonschema hypothesis httpx
# Old releases warn of what newer ones of their own dependencies deprecate.
"$home/venv/bin/python" -m pytest -q -n 2 -p no:cacheprovider -W ignore::DeprecationWarning -m "not slow and not services" "$@" \
    tests/contract tests/cost/intake tests/cost/pricing tests/cost/sidecar/test_api.py \
    tests/cost/sidecar/test_otlp_http.py tests/tracer/usage tests/tracer/providers \
    --deselect tests/contract/test_app.py  # needs CrewAI
