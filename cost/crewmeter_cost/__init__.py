"""crewmeter's money side.

Intake, pricing, ledger, reports, budgets, command line, sidecar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter_cost.client import LedgerClient

__all__ = ["open"]


def open(url: str | None = None, *, token: str | None = None) -> LedgerClient:
    """Open a ledger, or a sidecar, to read from Python.

    Args:
        url: SQLAlchemy URL or SQLite path of a ledger, or ``http://`` address of a sidecar.
            Default: ``$CREWMETER_LEDGER``, else ``~/.crewmeter/ledger.db``.
        token: A sidecar's read key. Default: ``$CREWMETER_TOKEN``.

    Returns:
        A client with ``report``, ``runs`` and ``run``. Close it, or use it in a ``with`` block.

    Raises:
        CrewMeterError: There is no ledger at `url`, or it cannot be read.
    """
    # Apps import this package for its exporter; they do not pay for the reading side.
    from crewmeter_cost.client import open_client

    return open_client(url, token=token)
