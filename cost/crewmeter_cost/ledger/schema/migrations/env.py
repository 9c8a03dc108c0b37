"""What Alembic runs.

The revisions, on the connection (and in the transaction) that `run.upgrade` holds.
"""

from __future__ import annotations

from alembic import context

from crewmeter_cost.ledger.schema.version_numbers import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
