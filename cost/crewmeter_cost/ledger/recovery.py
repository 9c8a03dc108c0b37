"""Recovery of the journals that ended apps left.

A reading command does it before it reads, a sidecar now and then while it serves.
"""

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
    from crewmeter_cost.records import Span

__all__ = ["JournalRecovery", "recover"]

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
        _log.warning("calls wait beside %s and cannot be written: %s", path, error)


class JournalRecovery:
    """Journals beside one ledger, written again and again as apps end.

    `path` is the SQLite ledger's file, None for a database server, beside which there are none.
    `write` writes spans and returns when they are committed. It raises `CrewMeterError` or
    `OSError` where that is not possible now.
    """

    def __init__(self, path: Path | None, write: Callable[[list[Span]], object]) -> None:
        self._path = path
        self._write = write
        self._problem: str | None = None

    def run(self) -> int:
        """Write what ended apps left, and return the number of spans. Never raises.

        Where the ledger cannot take them now, the journals stay for the next time.
        """
        if self._path is None:
            return 0
        try:
            spans = replay_journals(self._path, self._write)
        except (CrewMeterError, OSError) as error:
            if str(error) != self._problem:
                _log.warning("calls of ended apps wait beside %s: %s", self._path, error)
            self._problem = str(error)
            return 0
        self._problem = None
        if spans:
            _log.info("%d spans of ended apps were read from their journals", spans)
        return spans
