"""The money side of crewmeter: intake, pricing, ledger, reports, budgets, command line, sidecar."""
