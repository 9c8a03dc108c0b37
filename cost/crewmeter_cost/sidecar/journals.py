"""Journals of apps that have ended, written to the ledger while the sidecar serves.

Apps on the same machine may share the sidecar's SQLite file, or have ended before they sent what
their journals hold. See `crewmeter_cost.ledger.write.journal_replay`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.database_errors import LedgerUnavailableError
from crewmeter_cost.ledger.write.journal_replay import replay_journals
from crewmeter_cost.sidecar.writer import QueueFull

if TYPE_CHECKING:
    from pathlib import Path

    from crewmeter_cost.pipeline import Pipeline
    from crewmeter_cost.records import Span
    from crewmeter_cost.sidecar.writer import Writer

__all__ = ["JournalRecovery"]

log = logging.getLogger("crewmeter.sidecar")

_COMMIT_SECONDS = 120.0
"""How long a batch may wait for its commit before it is left for the next time."""


class JournalRecovery:
    """Writes journals through the sidecar's own writer, so that its metrics count them.

    `path` is the SQLite ledger's file, None for a database server, beside which there are none.
    """

    def __init__(self, path: Path | None, pipeline: Pipeline, writer: Writer) -> None:
        self._path = path
        self._pipeline = pipeline
        self._writer = writer
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
                log.warning("calls of ended apps wait beside %s: %s", self._path, error)
            self._problem = str(error)
            return 0
        self._problem = None
        if spans:
            log.info("%d spans of ended apps were read from their journals", spans)
        return spans

    def _write(self, spans: list[Span]) -> None:
        """Return when the spans are committed. Raises `CrewMeterError` or `TimeoutError`."""
        try:
            written = self._writer.submit(self._pipeline.price(spans), time.monotonic())
        except QueueFull as full:
            raise LedgerUnavailableError(str(full)) from None
        written.result(_COMMIT_SECONDS)
