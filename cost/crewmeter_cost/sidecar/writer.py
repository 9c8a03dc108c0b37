"""The one thread that writes to the ledger.

Requests that wait together share one transaction, and each is answered after its commit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.errors import (
    CrewMeterError,
    LedgerCorruptError,
    LedgerUnavailableError,
    QueueFull,
)
from crewmeter_cost.ledger.read.run_cost import run_cost
from crewmeter_cost.sidecar.background import SupervisedThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crewmeter_cost.ledger.store import Written
    from crewmeter_cost.pipeline import Pipeline, Priced
    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.records import Call, Step
    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.tenant_ledgers import SidecarLedgers

__all__ = ["Writer"]

log = logging.getLogger("crewmeter.sidecar")

_IDLE_SECONDS = 1.0
"""How often an idle writer looks whether its ledger is still there."""
_FOLLOWS = 3
"""How often one group follows a ledger that is exchanged under it."""
_COMMIT_SECONDS = 120.0
"""How long a batch of this process's own may wait for its commit."""
_RETRY_AT_LEAST = 1.0
_RETRY_AT_MOST = 30.0


@dataclass(frozen=True, slots=True)
class _QueuedBatch:
    """A batch that waits to be written, and who waits for it."""

    priced: Priced
    ended: float
    done: Future[None]


@dataclass(frozen=True, slots=True)
class _WrittenGroup:
    """What one transaction inserted, and how long it took."""

    calls: Sequence[tuple[Call, Outcome]]
    steps: Sequence[Step]
    written: Written
    seconds: float


class Writer:
    """Takes priced batches, writes them in groups, and completes each batch's future.

    A future fails with `CrewMeterError` where the ledger cannot take the batch now: nothing of it
    is stored, and the sender should try again.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: SidecarMetrics,
        ledgers: SidecarLedgers,
        *,
        capacity: int,
        group: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._ledgers = ledgers
        self._capacity = capacity
        self._group = group
        self._clock = clock
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._waiting: deque[_QueuedBatch] = deque()
        """Batches stay here until they are answered, so that none is lost with a thread."""
        self._stopping = False
        self._queued = 0
        self._rate = 10_000.0
        """Spans a second in the last groups, from which Retry-After is computed."""
        self._failure: str | None = None
        """Why the last transaction failed. None once one succeeded."""
        self._missing: str | None = None
        """Why an idle writer can't find its ledger. None once it could."""
        self._suspicion: LedgerCorruptError | None = None
        self.thread = SupervisedThread(
            "crewmeter-writer",
            self._run,
            died=metrics.thread_died,
        )

    @property
    def queued(self) -> int:
        """Return the number of spans that wait."""
        return self._queued

    @property
    def failure(self) -> str | None:
        """Return why a batch could not be written now, as far as is known."""
        return self.thread.problem or self._failure or self._missing

    def suspect(self, error: LedgerCorruptError) -> None:
        """Have a file that a reader found damaged checked before the next transaction."""
        self._suspicion = error

    def start(self) -> None:
        """Begin writing."""
        self.thread.start()

    def stop(self) -> str | None:
        """Write what is queued, then end. What is submitted from now on is refused.

        Returns what is wrong with the ledger that was written, or None where it is at its location.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self.thread.join()
        try:
            return self._ledgers.change()
        except CrewMeterError as error:
            return error.message

    def submit(self, priced: Priced, ended: float) -> Future[None]:
        """Queue a batch and return a future that is done once it is committed.

        `ended` is when the batch's last span ended, on the monotonic clock, for the lag metric.
        Raises `QueueFull` where there is no room, and `CrewMeterError` where the sidecar stops.
        """
        batch = _QueuedBatch(priced, ended, Future())
        # From now on it can't be cancelled. A client that hangs up would cancel it through the
        # event loop, and completing a cancelled future raises in the writer.
        batch.done.set_running_or_notify_cancel()
        with self._wake:
            if self._stopping:
                raise LedgerUnavailableError("the sidecar is stopping", hint="try again")
            if self._queued and self._queued + priced.spans > self._capacity:
                seconds = round(
                    self._queued / self._rate,
                    1,
                )
                raise QueueFull(max(_RETRY_AT_LEAST, min(_RETRY_AT_MOST, seconds)))
            self._queued += priced.spans
            self._waiting.append(batch)
            self._wake.notify()
        return batch.done

    def write(self, priced: Priced) -> None:
        """Write a batch of this process's own, and return when it is committed.

        Raises `CrewMeterError`, and `TimeoutError` after `_COMMIT_SECONDS`.
        """
        try:
            written = self.submit(priced, time.monotonic())
        except QueueFull as full:
            raise LedgerUnavailableError(str(full)) from None
        written.result(_COMMIT_SECONDS)

    def _run(self) -> None:
        """Write group after group until stopped."""
        while (group := self._next_group()) is not None:
            if not group:
                self._look_while_idle()
                continue
            suspicion = self._suspicion
            self._suspicion = None
            try:
                if suspicion is not None:
                    self._recovered(suspicion)
                self._write_group(group)
            except BaseException as error:
                # The thread dies of this. Whoever waits gets an answer first, and may try again.
                problem = CrewMeterError(f"the writer ended by {type(error).__name__}")
                self._answer(
                    [batch for batch in group if not batch.done.done()],
                    problem,
                )
                raise

    def _next_group(self) -> list[_QueuedBatch] | None:
        """Return the batches of one transaction.

        The list is empty where none came for a while. None where there is nothing more to do.
        """
        with self._wake:
            if not self._waiting and not self._stopping:
                self._wake.wait(_IDLE_SECONDS)
            if not self._waiting:
                return None if self._stopping else []
            group: list[_QueuedBatch] = []
            spans = 0
            for batch in self._waiting:
                group.append(batch)
                spans += batch.priced.spans
                if spans >= self._group:
                    break
            return group

    def _look_while_idle(self) -> None:
        """Follow a ledger that was exchanged while nothing was written."""
        try:
            self._follow_change()
        except CrewMeterError as error:
            if self._missing != error.message:
                log.error("%s", error.message)
            self._missing = error.message
        else:
            self._missing = None

    def _write_group(self, group: Sequence[_QueuedBatch]) -> None:
        """Write a group in one transaction, or each batch alone where one fails."""
        try:
            self._commit(group)
        except CrewMeterError as error:
            if isinstance(error, LedgerCorruptError) and self._recovered(error):
                self._write_group(group)
                return
            self._failed(group, error)
        except Exception as error:
            if len(group) > 1:
                for batch in group:
                    self._write_group([batch])
            else:
                log.exception("a batch could not be written")
                self._failed(
                    group,
                    CrewMeterError(f"internal error: {type(error).__name__}"),
                )
        else:
            self._failure = None
            self._answer(group, None)

    def _commit(self, group: Sequence[_QueuedBatch]) -> None:
        """Write a group to the ledger that is at its location when the commit is done.

        Rows are unique by trace and span id, so a group may be written to a second ledger after the
        first was exchanged, and senders may repeat one that was not acknowledged.
        """
        self._follow_change()  # before, since what a ledger remembers of one is wrong for another
        for _ in range(_FOLLOWS):
            found = self._write(group)
            if not self._follow_change():
                self._count(group, found)
                return
        raise LedgerUnavailableError(
            "the ledger is exchanged again and again", hint="nothing of the batch is acknowledged"
        )

    def _follow_change(self) -> bool:
        """Open the ledger that is at the location now, and return whether it is another."""
        change = self._ledgers.change()
        if change is None:
            return False
        self._metrics.replacements.inc()
        self._pipeline.ledger = self._ledgers.follow(change)
        return True

    def _write(self, group: Sequence[_QueuedBatch]) -> _WrittenGroup:
        began = time.perf_counter()
        receipt = self._pipeline.write([batch.priced for batch in group])
        return _WrittenGroup(
            receipt.calls,
            receipt.steps,
            receipt.written,
            time.perf_counter() - began,
        )

    def _failed(self, group: Sequence[_QueuedBatch], error: CrewMeterError) -> None:
        self._metrics.ledger_errors.inc()
        self._note_failure(error)
        self._answer(group, error)

    def _note_failure(self, error: CrewMeterError) -> None:
        """Log a failure once, however often it repeats, and make ``/readyz`` say it."""
        if self._failure != error.message:
            hint = f" ({error.hint})" if error.hint else ""
            log.error("%s%s", error.message, hint)
        self._failure = error.message

    def _answer(self, group: Sequence[_QueuedBatch], error: CrewMeterError | None) -> None:
        """Complete the futures of a group.

        Their room in the queue is free before, so that a sender's next request finds it.
        """
        with self._lock:
            for batch in group:
                self._waiting.popleft()  # groups are answered in the order of the queue
                self._queued -= batch.priced.spans
        for batch in group:
            if error is None:
                batch.done.set_result(None)
            else:
                batch.done.set_exception(error)

    def _recovered(self, error: LedgerCorruptError) -> bool:
        ledger = self._ledgers.reopen(error)
        if ledger is None:
            return False
        self._metrics.quarantines.inc()
        self._pipeline.ledger = ledger
        return True

    def _count(self, group: Sequence[_QueuedBatch], found: _WrittenGroup) -> None:
        """Count a committed group in the metrics."""
        metrics = self._metrics
        now = time.monotonic()
        written = found.written
        rows = len(found.calls) + len(found.steps)
        self._rate = 0.8 * self._rate + 0.2 * rows / max(found.seconds, 1e-4)
        new_calls = [found.calls[index] for index in written.new_calls]
        new_steps = [found.steps[index] for index in written.new_steps]
        metrics.meter.record(new_calls, new_steps)
        metrics.write_seconds.observe(found.seconds)
        metrics.last_span.set(self._clock() / 1e9)
        stored = written.inserted_calls + written.inserted_steps
        metrics.spans.labels("stored").inc(stored)
        metrics.spans.labels("duplicate").inc(rows - stored)
        metrics.spans.labels("ignored").inc(sum(batch.priced.ignored for batch in group))
        for batch in group:
            metrics.lag_seconds.observe(now - batch.ended)
        self._count_runs(new_steps)

    def _count_runs(self, steps: Sequence[Step]) -> None:
        """Count the model calls of the runs that ended."""
        roots = [step for step in steps if step.is_run and step.context.run_id is not None]
        ledger = self._pipeline.ledger
        try:
            totals = [(step.name, run_cost(ledger, str(step.context.run_id))) for step in roots]
        except CrewMeterError:  # the spans are committed; only the loop detector misses these runs
            log.warning("the calls of %d finished runs could not be counted", len(roots))
            return
        self._metrics.meter.record_run_calls(
            (name, total.calls) for name, total in totals if total is not None
        )
