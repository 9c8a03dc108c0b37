"""The one thread that writes: requests that wait together share one transaction, and each is answered after its commit."""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.database_errors import LedgerCorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crewmeter_cost.ledger.store import Ledger, Written
    from crewmeter_cost.pipeline import Pipeline, Priced
    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics

__all__ = ["QueueFull", "Writer"]

log = logging.getLogger("crewmeter.sidecar")


class QueueFull(Exception):
    """The queue is full; try again in `retry_seconds`."""

    def __init__(self, retry_seconds: float) -> None:
        super().__init__(f"the writer is behind; try again in {retry_seconds:g} s")
        self.retry_seconds = retry_seconds


@dataclass(frozen=True, slots=True)
class _Request:
    priced: Priced
    ended: float
    done: Future[None]


class Writer:
    """Takes priced batches, writes them in groups, and says how it went through each batch's future.

    A future fails with `CrewMeterError` where the ledger cannot take the batch now: nothing of it is stored, and the
    sender should try again. `reopened` is called with the damaged file's new path and gives the ledger to go on with.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: SidecarMetrics,
        *,
        capacity: int,
        group: int,
        reopened: Callable[[LedgerCorruptError], Ledger | None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._capacity = capacity
        self._group = group
        self._reopened = reopened
        self._clock = clock
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self._rate = 10_000.0
        """Spans a second the writer manages, by its last groups: what Retry-After is reckoned from."""
        self.failure: str | None = None
        """Why the last transaction failed; None once one succeeded. What ``/readyz`` says."""
        self._suspicion: LedgerCorruptError | None = None
        self._thread = threading.Thread(target=self._run, name="crewmeter-writer")

    @property
    def queued(self) -> int:
        """Spans waiting."""
        return self._queued

    def suspect(self, error: LedgerCorruptError) -> None:
        """Somebody reading found the ledger damaged: look at the file before the next transaction."""
        self._suspicion = error

    def start(self) -> None:
        """Begin writing."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, then end. Nothing may be submitted any more."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, priced: Priced, ended: float) -> Future[None]:
        """Queue a batch; the future is done once it is committed. Raises `QueueFull` where the queue has no room.

        `ended` is when the batch's last span ended, on the monotonic clock, for the lag metric.
        """
        with self._lock:
            if self._queued and self._queued + priced.spans > self._capacity:
                raise QueueFull(max(1.0, min(30.0, round(self._queued / self._rate, 1))))
            self._queued += priced.spans
        request = _Request(priced, ended, Future())
        self._queue.put(request)
        return request.done

    def _run(self) -> None:
        """Group after group until told to stop."""
        more = True
        while more:
            first = self._queue.get()
            if first is None:
                return
            group, spans = [first], first.priced.spans
            while spans < self._group:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    more = False
                    break
                group.append(following)
                spans += following.priced.spans
            suspicion, self._suspicion = self._suspicion, None
            if suspicion is not None:
                self._recovered(suspicion)
            self._write_group(group)

    def _write_group(self, group: Sequence[_Request]) -> None:
        """Write a group in one transaction; where one request of it cannot be written, each on its own."""
        try:
            self._commit(group)
        except CrewMeterError as error:
            if isinstance(error, LedgerCorruptError) and self._recovered(error):
                self._write_group(group)
                return
            self._failed(group, error)
        except Exception as error:
            if len(group) > 1:
                for request in group:
                    self._write_group([request])
            else:
                log.exception("a batch could not be written")
                self._failed(group, CrewMeterError(f"internal error: {type(error).__name__}"))
        else:
            self.failure = None
            self._answer(group, None)

    def _failed(self, group: Sequence[_Request], error: CrewMeterError) -> None:
        self._metrics.ledger_errors.inc()
        if self.failure != error.message:
            log.error("%s%s", error.message, f" ({error.hint})" if error.hint else "")
        self.failure = error.message
        self._answer(group, error)

    def _answer(self, group: Sequence[_Request], error: CrewMeterError | None) -> None:
        """Tell the waiting requests; first their places are free, so that whoever was answered finds the queue without them."""
        with self._lock:
            self._queued -= sum(request.priced.spans for request in group)
        for request in group:
            if error is None:
                request.done.set_result(None)
            else:
                request.done.set_exception(error)

    def _recovered(self, error: LedgerCorruptError) -> bool:
        ledger = self._reopened(error)
        if ledger is None:
            return False
        self._metrics.quarantines.inc()
        self._pipeline.ledger = ledger
        return True

    def _commit(self, group: Sequence[_Request]) -> None:
        began = time.perf_counter()
        calls = [call for request in group for call in request.priced.calls]
        steps = [step for request in group for step in request.priced.steps]
        written = self._pipeline.ledger.write(calls, steps, self._pipeline.frozen)
        seconds = time.perf_counter() - began
        self._rate = 0.8 * self._rate + 0.2 * (len(calls) + len(steps)) / max(seconds, 1e-4)
        self._count(group, written, calls, steps, seconds)

    def _count(
        self,
        group: Sequence[_Request],
        written: Written,
        calls: list[Any],
        steps: list[Any],
        seconds: float,
    ) -> None:
        metrics, now = self._metrics, time.monotonic()
        new_steps = [steps[position] for position in written.new_steps]
        metrics.meter.record([calls[position] for position in written.new_calls], new_steps)
        metrics.write_seconds.observe(seconds)
        metrics.last_span.set(self._clock() / 1e9)
        stored = written.inserted_calls + written.inserted_steps
        duplicates = len(calls) + len(steps) - stored
        metrics.spans.labels("stored").inc(stored)
        metrics.spans.labels("duplicate").inc(duplicates)
        metrics.spans.labels("ignored").inc(
            sum(request.priced.spans for request in group) - len(calls) - len(steps)
        )
        for request in group:
            metrics.lag_seconds.observe(now - request.ended)
        roots = [step for step in new_steps if step.is_run and step.context.run_id is not None]
        try:
            totals = [
                (step.name, self._pipeline.ledger.run_cost(str(step.context.run_id)))
                for step in roots
            ]
        except CrewMeterError:  # the spans are committed; only the loop detector misses these runs
            log.warning("the calls of %d finished runs could not be counted", len(roots))
        else:
            metrics.meter.record_run_calls(
                (name, total.calls) for name, total in totals if total is not None
            )
