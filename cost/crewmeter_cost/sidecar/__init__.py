"""`crewmeter serve`: OTLP in, the ledger behind, metrics, an API and a page out."""
