"""The sidecar's two ledgers, one to write and one to read.

A SQLite file can be damaged, deleted, moved, or replaced by a backup while it is open. SQLite
notices only damage: what is committed after the file was moved goes with it, and nobody finds it at
its path. So the file's identity is compared before a batch is acknowledged. A PostgreSQL server can
be exchanged too, for a replica that lacks the last commits.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from crewmeter_cost.errors import CrewMeterError, LedgerCorruptError, LedgerUnavailableError
from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.maintenance.set_aside import set_aside
from crewmeter_cost.ledger.sqlite_file import real_path
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SidecarLedgers"]

log = logging.getLogger("crewmeter.sidecar")

Identity = tuple[object, ...]

_DATABASE = text(
    "SELECT (SELECT oid FROM pg_database WHERE datname = current_database()),"
    " to_regclass('call')::oid"
)
"""Changes when a PostgreSQL database is dropped and made again."""
_SERVER = text(
    "SELECT (SELECT system_identifier FROM pg_control_system()),"
    " (SELECT timeline_id FROM pg_control_checkpoint())"
)
"""Changes when a replica takes over: promotion begins a new timeline."""


class SidecarLedgers:
    """The ledger, opened durably for the writer and read-only for pages.

    `ledger` is exchanged for a new one where the old one is damaged (`reopen`) or no longer at its
    path (`follow`).
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._path: Path | None = sqlite_path(ledger_url(url))
        self._knows_server = True
        try:
            # Before it is opened: SQLite drops what follows a damaged frame of the WAL.
            Ledger(ledger_url(url)).verify()
            self.ledger = Ledger.open(url, durable=True)
        except LedgerCorruptError as error:
            reopened = self.reopen(error)
            if reopened is None:
                raise
            self.ledger = reopened
        self.reading = Ledger.open(url, read_only=True)
        self._identity = self._identify()

    def reopen(self, error: LedgerCorruptError) -> Ledger | None:
        """Set the damaged file aside and return a new ledger.

        None where it is no file, is sound, or no new one can be opened.
        """
        if self._path is None:
            return None
        opened: list[Ledger] = []
        if hasattr(self, "reading"):  # not yet, when the damage shows on opening
            opened = [self.ledger, self.reading]
        aside = set_aside(self._path, error, opened)
        if aside is not None:
            log.critical("%s; it is now at %s and a new ledger is begun", error.message, aside)
        try:
            self.ledger = Ledger.open(self._url, durable=True)
        except CrewMeterError as again:
            log.critical("no new ledger could be opened: %s", again.message)
            return None
        self._identity = self._identify()
        if aside is not None:
            return self.ledger
        return None

    def change(self) -> str | None:
        """Return how the ledger at its location differs from the one open, or None.

        Raises `LedgerUnavailableError` where a database server does not say.
        """
        found = self._identify()
        if found == self._identity:
            return None
        if self._path is None:
            return f"{self.ledger.name} is another database, or another server, than before"
        if found is None:
            return f"the ledger file {self._path} was deleted or moved"
        return f"the ledger file {self._path} was replaced"

    def follow(self, change: str) -> Ledger:
        """Open the ledger that is at the configured location now, and return it.

        Raises `CrewMeterError` where that is not possible.
        """
        self.reading.close()
        self.ledger.close()
        self.ledger = Ledger.open(self._url, durable=True)
        self._identity = self._identify()
        log.critical(
            "%s while crewmeter was writing; what was acknowledged before is where that ledger is "
            "now, and the sidecar goes on with %s",
            change,
            self.ledger.name,
        )
        return self.ledger

    def size(self) -> int | None:
        """Return the bytes of the file with its WAL, None for a database server."""
        if self._path is None:
            return None
        total = 0
        real = real_path(self._path)
        for path in (real, real.with_name(f"{real.name}-wal")):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def close(self) -> None:
        """Close both."""
        self.reading.close()
        self.ledger.close()

    def _identify(self) -> Identity | None:
        """Return what tells this ledger from another at its location.

        Returns None where there is nothing.

        Raises `LedgerUnavailableError` where a database server does not say.
        """
        if self._path is None:
            return self._identify_database()
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _identify_database(self) -> Identity:
        try:
            with self.ledger.engine.connect() as connection:
                identity = tuple(connection.execute(_DATABASE).one())
                if self._knows_server:
                    try:
                        return (*identity, *connection.execute(_SERVER).one())
                    except DBAPIError:  # the role may not call these functions
                        self._knows_server = False
        except SQLAlchemyError as error:
            raise LedgerUnavailableError(
                f"{self.ledger.name} does not answer ({type(error).__name__})",
                hint="nothing was acknowledged; senders try again",
            ) from error
        return identity
