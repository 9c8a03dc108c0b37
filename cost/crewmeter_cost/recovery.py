"""Recovery of the journals that ended apps left, before the ledger is read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.ledger.write.journal_replay import replay_journals
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["recover"]

_log = logging.getLogger("crewmeter")


def recover(path: Path) -> None:
    """Write the journals beside the SQLite ledger at ``path``, creating it if needed.

    Never raises. Where they cannot be written now they stay for the next reader.
    """
    try:
        with Ledger.open(str(path)) as ledger:
            replay_journals(
                path,
                Pipeline(ledger, PriceBook.load()).ingest,
            )
    except (CrewMeterError, OSError) as error:
        _log.warning("crewmeter: calls wait beside %s and cannot be written: %s", path, error)
