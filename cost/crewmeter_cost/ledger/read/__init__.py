"""Queries on the ledger: reports, runs, trees, calls."""
