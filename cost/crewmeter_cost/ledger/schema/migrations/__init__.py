"""Alembic's home: one file per revision of the ledger's tables.

Views have no revisions; an upgrade makes them anew.
"""
