"""The embedded ledger as an OpenTelemetry span exporter.

Entry point ``crewmeter`` of ``opentelemetry_traces_exporter``.

It runs on a span processor's own thread. Nothing heavy (SQLModel, the price book) is imported
before the first export, and nothing that goes wrong reaches the app: spans wait in a bounded spool
and are tried again; what is lost is counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.read.run_cost import RunCost, run_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from crewmeter_cost.errors import LedgerCorruptError
    from crewmeter_cost.ledger.maintenance.retention import Retention
    from crewmeter_cost.pipeline import Pipeline
    from crewmeter_cost.pricing.price_book import PriceBook
    from crewmeter_cost.records import Span

__all__ = ["LedgerSpanExporter", "unwritten_spans"]

_log = logging.getLogger("crewmeter")

SPOOL_SPANS = 10_000
"""Spans that wait while the ledger cannot be written (20 MB). Beyond, the oldest are dropped."""
BATCH_SPANS = 1_000
BUSY_SECONDS = 1.0
"""How long one attempt waits for another process's write.

Two fit into the two seconds an exit may take.
"""
CHECK_SECONDS = 1.0
"""How long the bytes of the ledger are checked before it is opened, enough for some 500 MB."""
FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
QUIET_SECONDS = 60.0
"""At most one complaint in this time."""


class LedgerSpanExporter(SpanExporter):
    """A span exporter that prices spans and writes them to a ledger.

    `ledger` is a URL or path, by default ``$CREWMETER_LEDGER``.
    """

    def __init__(self, ledger: str | None = None) -> None:
        self._url = ledger
        self._reset()
        self._lost = 0
        self._complained = float("-inf")
        self._closed = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_weakly(self))

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._spool: deque[Span] = deque()
        self._pipeline: Pipeline | None = None
        self._failures = 0
        self._next_try = 0.0
        self._retry: threading.Thread | None = None
        self._wake = threading.Event()
        self._retention: Retention | None = None
        self._suspicion: LedgerCorruptError | None = None

    def after_fork(self) -> None:
        """In a forked child: begin afresh.

        The parent's waiting spans stay the parent's; its connections were closed before the fork.
        """
        self._reset()

    def warm_up(self) -> None:
        """Import what the first batch needs and open the ledger.

        It takes time that a short script's exit should not wait for.
        """
        with self._lock:
            try:
                self._ready()
            except CrewMeterError as error:
                self._complain(f"{error}; it is tried again when there is something to write")

    @property
    def is_durable(self) -> bool:
        """True when every exported span is in the ledger, so no journal need hold it."""
        return not self._spool

    def replay_journals(self) -> None:
        """Write what ended processes left in their journals. Never raises."""
        from crewmeter_cost.ledger.write.journal_replay import replay_journals

        with self._lock:
            path = self._journaled_ledger()
            if path is None or self._spool:
                return
            try:
                replay_journals(path, self._ready().ingest)
            except (CrewMeterError, OSError) as error:
                self._complain(f"{error}; calls of an ended process wait in its journal")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write finished spans, or keep them for later. Never raises."""
        from crewmeter_cost.intake.sdk_spans import span_of

        if self._closed:
            return SpanExportResult.FAILURE
        with self._lock:
            self._spool.extend(record for span in spans if (record := span_of(span)) is not None)
            surplus = len(self._spool) - SPOOL_SPANS
            if surplus > 0 and self._failures:
                for _ in range(surplus):
                    self._spool.popleft()
                self._lost += surplus
            if time.monotonic() >= self._next_try:
                self._drain()
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Try now to write what waits.

        True if nothing waits any more. One attempt, so it takes `BUSY_SECONDS` beside the writing.
        """
        if not self._lock.acquire(timeout=timeout_millis / 1000):
            return False
        try:
            self._drain()
            self.replay_journals()
            return not self._spool
        finally:
            self._lock.release()

    def shutdown(self) -> None:
        """One last attempt, then close.

        Says how many spans wait in a journal and how many are lost, if any.
        """
        self._wake.set()
        if self._closed or not self._lock.acquire(timeout=2 * BUSY_SECONDS):
            return
        try:
            self._closed = True
            self._drain()
            self.replay_journals()
            self._give_up_spool()
            if self._lost:
                lost = counted(self._lost, "span")
                _log.warning("%s never reached the ledger%s", lost, self._where())
            if self._pipeline is not None:
                self._pipeline.ledger.close()
                self._pipeline = None
        finally:
            self._lock.release()

    def run_cost(self, run_id: str) -> RunCost | None:
        """Return the totals of a run as far as they are written.

        None where the ledger does not know it or cannot be read now.
        """
        with self._lock:
            pipeline = self._pipeline
        if pipeline is None:
            return None
        try:
            return run_cost(pipeline.ledger, run_id)
        except CrewMeterError as error:
            self._suspect(error)
            return None

    def _suspect(self, error: CrewMeterError) -> None:
        """Have a ledger that a reader found damaged set aside before the next batch."""
        from crewmeter_cost.errors import LedgerCorruptError

        if isinstance(error, LedgerCorruptError):
            self._suspicion = error

    def _give_up_spool(self) -> None:
        """Count what no ledger took as lost, except what this process's journal holds."""
        if not self._spool:
            return
        held = self._held_in_journal()
        lost = [span for span in self._spool if (span.trace_id, span.span_id) not in held]
        self._lost += len(lost)
        _unwritten.extend(lost)
        waiting = len(self._spool) - len(lost)
        if waiting:
            _log.warning(
                "in a journal: %s; the next app or command that opens the ledger writes it",
                counted(waiting, "span"),
            )

    def _held_in_journal(self) -> set[tuple[str, str]]:
        """Trace and span ids in the journal of this process."""
        from crewmeter_cost.ledger.location import ledger_url, sqlite_path
        from crewmeter_cost.ledger.write.journal_replay import own_span_ids

        path = sqlite_path(ledger_url(self._url))
        if path is None:
            return set()
        return own_span_ids(path)

    def _journaled_ledger(self) -> Path | None:
        """Return the SQLite ledger beside which there are journals, else None."""
        from crewmeter_cost.ledger.location import ledger_url, sqlite_path
        from crewmeter_cost.ledger.write.journal_replay import has_journals

        path = sqlite_path(ledger_url(self._url))
        if path is not None and has_journals(path):
            return path
        return None

    def _drain(self) -> None:
        """Write the spool in batches until it is empty or the ledger refuses."""
        suspicion = self._suspicion
        self._suspicion = None
        if suspicion is not None:
            self._mended(suspicion)
        while self._spool:
            batch = list(islice(self._spool, BATCH_SPANS))
            if not self._write(batch):
                return
            for _ in batch:
                self._spool.popleft()
        self._retain()

    def _retain(self) -> None:
        """Delete what is older than the settings say, a little at a time."""
        if self._pipeline is None:
            return
        from crewmeter_cost.ledger.maintenance.retention import Retention

        try:
            if self._retention is None:
                self._retention = Retention(most_batches=2)
            self._retention.run(self._pipeline.ledger)
        except CrewMeterError as error:
            self._complain(f"{error}; no old detail is deleted")

    def _write(self, batch: list[Span]) -> bool:
        """Write one batch.

        False if the ledger refuses it for now. A span that cannot be read is dropped, and only
        that one.
        """
        try:
            self._ready().ingest(batch)
        except CrewMeterError as error:
            if self._mended(error):
                return self._write(batch)
            self._refused(error)
            return False
        except Exception as error:  # noqa: BLE001  listed in scripts/house_excepts.py
            if len(batch) > 1:
                # Every one of them by itself, also after a refusal.
                written = [self._write([span]) for span in batch]
                return all(written)
            self._lost += 1
            self._complain(f"a span was dropped, it could not be read: {error!r}")
        self._failures = 0
        self._next_try = 0.0
        return True

    def _ready(self) -> Pipeline:
        """Return the pipeline, opened at first use."""
        pipeline = self._pipeline
        if pipeline is None:
            from crewmeter_cost.ledger.content.content_store import content_sink
            from crewmeter_cost.ledger.location import ledger_url
            from crewmeter_cost.ledger.store import Ledger
            from crewmeter_cost.pipeline import Pipeline

            # Before it is opened: SQLite drops what follows a damaged frame of the WAL.
            Ledger(ledger_url(self._url)).verify(most_seconds=CHECK_SECONDS)
            ledger = Ledger.open(self._url, busy_seconds=BUSY_SECONDS)
            pipeline = self._pipeline = Pipeline(
                ledger, self._book(), pause=_let_others_run, content=content_sink(ledger.url)
            )
        return pipeline

    def _book(self) -> PriceBook:
        from crewmeter_cost.pricing.price_book import PriceBook

        try:
            return PriceBook.load()
        except CrewMeterError as error:
            _log.error(
                "%s; pricing with the public book. Correct the file, then run `crewmeter reprice`",
                error,
            )
            return PriceBook.load(Path(os.devnull))

    def _mended(self, error: CrewMeterError) -> bool:
        """Move a damaged SQLite file aside.

        True if that was what was wrong and another attempt makes sense.
        """
        from crewmeter_cost.errors import LedgerCorruptError
        from crewmeter_cost.ledger.location import ledger_url, sqlite_path
        from crewmeter_cost.ledger.maintenance.set_aside import set_aside

        if not isinstance(error, LedgerCorruptError):
            return False
        path = sqlite_path(ledger_url(self._url))
        if path is None:
            return False
        opened = [] if self._pipeline is None else [self._pipeline.ledger]
        self._pipeline = None
        try:
            aside = set_aside(path, error, opened)
        except OSError as problem:
            _log.error("%s, and it could not be moved aside: %s", error, problem)
            return False
        if aside is None:
            return False
        _log.error("%s; moved to %s, a new ledger is begun", error, aside)
        return True

    def _refused(self, error: CrewMeterError) -> None:
        """Handle a ledger that said no.

        Wait longer each time, and try again even if no further span comes.
        """
        self._failures += 1
        self._next_try = time.monotonic() + min(
            LONGEST_DELAY, FIRST_DELAY * 2 ** min(self._failures, 10)
        )
        spans = counted(len(self._spool), "span")
        self._complain(f"{error}; waiting: {spans}, lost so far: {self._lost}")
        if not self._closed and (self._retry is None or not self._retry.is_alive()):
            self._retry = threading.Thread(
                target=self._try_again, name="crewmeter-ledger-retry", daemon=True
            )
            self._retry.start()

    def _try_again(self) -> None:
        """Body of the retry thread: lives while spans wait."""
        while not self._wake.wait(max(0.05, self._next_try - time.monotonic())):
            with self._lock:
                if self._closed or not self._spool:
                    return
                if time.monotonic() >= self._next_try:
                    self._drain()

    def _complain(self, message: str) -> None:
        now = time.monotonic()
        if now - self._complained >= QUIET_SECONDS:
            self._complained = now
            _log.warning("%s", message)

    def _where(self) -> str:
        if self._pipeline is not None:
            return f" {self._pipeline.ledger.name}"
        return ""


_unwritten: list[Span] = []
"""Spans of this process that no ledger took before its exporter was shut down."""


def unwritten_spans() -> list[Span]:
    """Return the spans that this process's exporters lost at shutdown."""
    return list(_unwritten)


def _let_others_run() -> None:
    """Give up the interpreter, or the app's threads wait five milliseconds for it."""
    time.sleep(0)


def _weakly(exporter: LedgerSpanExporter) -> Callable[[], None]:
    """`after_fork` without keeping the exporter alive.

    Fork handlers are never unregistered.
    """
    reference = weakref.ref(exporter)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive.after_fork()

    return call
