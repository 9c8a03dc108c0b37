#!/usr/bin/env bash
# The action's script: tests with the meter on, then the gate. Runs anywhere, not only on GitHub.
#   BASELINE=baseline.json LIMITS=$'cost +10%\ncalls +0' TESTS=tests ./gate.sh
set -euo pipefail
ledger=$(mktemp -d)/ledger.db
words=()
while IFS= read -r limit; do
  if [[ -n ${limit// /} ]]; then words+=(--max "$limit"); fi
done <<<"$LIMITS"
# shellcheck disable=SC2086  # several paths may be given
python -m pytest --crewmeter --crewmeter-ledger "$ledger" $TESTS
crewmeter gate --baseline "$BASELINE" --ledger "$ledger" "${words[@]}" \
  --summary "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
