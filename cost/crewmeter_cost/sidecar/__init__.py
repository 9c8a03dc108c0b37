"""`crewmeter serve`: OTLP in over gRPC and HTTP, the ledger behind, metrics, an API and a page out."""
