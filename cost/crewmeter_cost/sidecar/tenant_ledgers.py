"""The sidecar's two ledgers, one to write and one to read, and what happens when the file under them is damaged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.database_errors import LedgerCorruptError
from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.quarantine import quarantine
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SidecarLedgers"]

log = logging.getLogger("crewmeter.sidecar")


class SidecarLedgers:
    """Opens the ledger durably for the writer and read-only for pages; a damaged SQLite file is set aside and a new one begun."""

    def __init__(self, url: str | None) -> None:
        where = ledger_url(url)
        self._url = url
        self._path: Path | None = sqlite_path(where)
        try:
            self.ledger = Ledger.open(url, durable=True)
        except LedgerCorruptError as error:
            reopened = self.reopen(error)
            if reopened is None:
                raise
            self.ledger = reopened
        self.reading = Ledger.open(url, read_only=True)

    def reopen(self, error: LedgerCorruptError) -> Ledger | None:
        """Set the damaged file aside and open a new ledger; None where it is no file, is sound, or no new one can be opened."""
        if self._path is None:
            return None
        if hasattr(self, "reading"):  # not yet, when the damage shows on opening
            self.ledger.close()
            self.reading.engine.dispose()
        aside = quarantine(self._path)
        if aside is not None:
            log.critical("%s; it now stands at %s and a new ledger is begun", error.message, aside)
        try:
            self.ledger = Ledger.open(self._url, durable=True)
        except CrewMeterError as again:
            log.critical("no new ledger could be opened: %s", again.message)
            return None
        return self.ledger if aside is not None else None

    def size(self) -> int | None:
        """Bytes of the file with its WAL; None for a database server."""
        if self._path is None:
            return None
        total = 0
        for path in (self._path, self._path.with_name(self._path.name + "-wal")):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
        return total

    def close(self) -> None:
        """Close both."""
        self.reading.close()
        self.ledger.close()
