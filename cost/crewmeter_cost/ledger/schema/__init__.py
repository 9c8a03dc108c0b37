"""The ledger's tables, views, schema version and migrations."""
