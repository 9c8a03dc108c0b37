"""Recovery of the journals that ended apps left, before the ledger is read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.write.journal_replay import replay_journals
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["recover"]

_log = logging.getLogger("crewmeter")


def recover(path: Path, open_ledger: Callable[[str], Ledger]) -> None:
    """Write the journals beside the SQLite ledger at ``path``, creating it if needed.

    Never raises. Where they cannot be written now they stay for the next reader.
    """
    try:
        with open_ledger(str(path)) as ledger:
            pipeline = Pipeline(ledger, PriceBook.load())
            replay_journals(path, pipeline.ingest)
    except (CrewMeterError, OSError) as error:
        _log.warning("crewmeter: calls wait beside %s and cannot be written: %s", path, error)
