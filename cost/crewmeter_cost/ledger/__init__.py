"""The ledger: tables in SQLite or PostgreSQL, bulk writes, views and reports."""
