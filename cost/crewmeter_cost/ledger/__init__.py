"""The ledger: SQLModel tables in SQLite or PostgreSQL, written in bulk, read through views and reports."""
