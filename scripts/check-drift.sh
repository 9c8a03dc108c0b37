#!/usr/bin/env bash
# Fails where a committed file is no longer what its source renders to: boards and rules, the price book, the migrations.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BIN:-.venv/bin}

"$bin/crewmeter" dashboards check
"$bin/crewmeter" prices check
"$bin/python" -m pytest -q -p no:cacheprovider tests/cost/ledger/schema -k "migration"
if [[ -d dashboards/web/node_modules ]]; then # the page's chart library is the locked one, byte for byte
    npm --prefix dashboards/web run --silent vendor:check
fi
