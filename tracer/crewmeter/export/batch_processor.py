"""Finished nodes to one exporter: bounded, in the background, in small batches; never in the app's way, also not at its exit."""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import monotonic, sleep
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from crewmeter.export.readable_span import readable
from crewmeter.log_rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

    from crewmeter.spans.span import OpenSpan

__all__ = ["BatchProcessor"]

logger = logging.getLogger("crewmeter")

CAPACITY = 10_000
"""Spans waiting at most; further ones are lost, counted and reported."""
BATCH = 512
DELAY_S = 0.1
"""How long the first span of a batch waits for company (s): a call that ended this long before a kill is kept."""
MAX_ATTEMPTS = 20
"""Times a refused batch is tried (some ten minutes) before it is lost."""
LONGEST_BACKOFF_S = 30.0
POLL_S = 0.002
"""How often (s) a flush looks whether all is done."""
HANGING_S = 1.0
IDLE_S = 60.0
"""How often (s) an idle courier wakes for housekeeping."""


class BatchProcessor:
    """One exporter's queue and thread. The exporter is made on that thread, since importing one may take a second.

    ``tick`` runs after every batch and every idle minute; ``observed`` sees each span once before its export, ``delivered``
    after it; ``last`` runs before the exporter is shut down. All of them on the courier's thread.
    """

    def __init__(
        self,
        name: str,
        factory: Callable[[], SpanExporter],
        resource: Callable[[], Resource],
        *,
        tick: Callable[[], None] | None = None,
        observed: Callable[[OpenSpan], None] | None = None,
        delivered: Callable[[OpenSpan, SpanExporter], None] | None = None,
        last: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._factory = factory
        self._resource = resource
        self._tick = tick
        self._observed = observed
        self._delivered = delivered
        self._last = last
        self._limit = RateLimit()
        self._retired: list[object] = []
        """Exporters of the process we were forked from: kept, lest closing them disturbs it."""
        self._reset()

    def _reset(self) -> None:
        self._queue: deque[OpenSpan] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._busy = False
        self._exporter: SpanExporter | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closing = False
        self._refused: list[OpenSpan] = []
        self._attempts = 0
        self._lost = 0
        self._failing = False
        self._exporting_since: float | None = None

    @property
    def failing(self) -> bool:
        """True after an export failed, until one succeeds, and while one has been hanging for a second."""
        since = self._exporting_since
        return self._failing or (since is not None and monotonic() - since > HANGING_S)

    def start(self) -> None:
        """Begin working; importing the exporter starts now. Does nothing when already running."""
        with self._starting:
            if self._thread is not None or self._closing:
                return
            thread = threading.Thread(target=self._run, name=f"crewmeter-{self.name}", daemon=True)
            self._thread = thread
        thread.start()

    def put(self, node: OpenSpan) -> None:
        """Queue a finished node. Never blocks; a full queue loses it, and says so from the worker."""
        if len(self._queue) >= CAPACITY:
            self._lost += 1
            return
        self._queue.append(node)
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self.start()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was queued is exported, at most ``timeout`` seconds. True if it was."""
        until = monotonic() + timeout
        self._hurry.set()
        while self._queue or self._refused or self._busy or self._wake.is_set():
            if monotonic() >= until:
                return False
            if self._queue and not self._refused:
                self._hurry.set()
            sleep(POLL_S)
        force = getattr(self._exporter, "force_flush", None)
        return (
            force(max(1, int((until - monotonic()) * 1000))) is not False
            if callable(force)
            else True
        )

    def close(self, timeout: float) -> bool:
        """Export what is queued and shut the exporter down, for at most ``timeout`` seconds; what remains is lost and reported."""
        if self._thread is None and not self._queue:
            return True
        if self._queue:
            self.start()
        self._closing = True
        self._hurry.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        if thread is not None and thread.is_alive():
            waiting = len(self._queue) + len(self._refused)
            if waiting:
                logger.warning(
                    "crewmeter: gave up on %s at exit; %d spans not delivered",
                    self.name,
                    waiting + self._lost,
                )
            return False
        return True

    def after_fork(self) -> None:
        """In the child: an empty queue, a new thread and a new exporter on first use."""
        self._retired.append(self._exporter)
        self._reset()

    def _run(self) -> None:
        self._warm_up()
        while True:
            self._wait()
            self._busy = True
            self._wake.clear()
            self._hurry.clear()
            try:
                self._drain()
                if self._tick is not None:
                    self._tick()
            except Exception as error:  # noqa: BLE001  # the worker must outlive whatever an exporter does
                self._failing = True
                self._attempts += 1
                self._report(f"cannot deliver to {self.name}: {type(error).__name__}: {error}")
                if self._attempts >= MAX_ATTEMPTS or self._closing:
                    self._lost += len(self._refused)
                    self._refused = []
            self._busy = False
            if self._closing and not self._queue and not self._refused:
                self._finish()
                return

    def _wait(self) -> None:
        """Sleep until there is something to do: a batch to fill, a refused one to try again, or the minute's housekeeping."""
        if self._closing:
            return
        if self._refused:
            self._hurry.wait(min(LONGEST_BACKOFF_S, 0.5 * 2**self._attempts))
        elif self._wake.wait(IDLE_S):
            self._hurry.wait(DELAY_S)

    def _warm_up(self) -> None:
        """Load the exporter before there is anything to export, so that the first batch does not wait for imports."""
        try:
            exporter = self._exporter = self._factory()
            warm = getattr(exporter, "warm_up", None)
            if callable(warm):
                warm()
        except Exception as error:  # noqa: BLE001  # a missing exporter is reported, and tried again with the first batch
            self._report(f"cannot set up {self.name}: {type(error).__name__}: {error}")

    def _drain(self) -> None:
        """Export what is queued, a batch at a time. What an exporter refuses waits for the next attempt, a bounded number of times."""
        while self._queue or self._refused:
            batch = self._refused or [
                self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))
            ]
            if not self._refused:
                self._attempts = 0
                self._prepare(batch)
            self._refused = batch
            self._failing = not self._export(batch)
            if not self._failing:
                self._refused = []
                continue
            self._attempts += 1
            if self._attempts >= MAX_ATTEMPTS or self._closing:
                self._lost += len(batch)
                self._refused = []
            self._report(
                f"{self.name} cannot be reached or refuses; {len(self._refused) + len(self._queue)} spans wait"
            )
            return
        if self._lost:
            self._report(f"the queue to {self.name} was full")

    def _prepare(self, batch: list[OpenSpan]) -> None:
        """Make the batch's spans, and show them to who wants to count them. A node that cannot be made a span is dropped alone."""
        resource = self._resource()
        for node in list(batch):
            try:
                readable(node, resource)
            except Exception as error:  # noqa: BLE001  # one odd span must not hold up the rest
                batch.remove(node)
                self._lost += 1
                self._report(f"a {node.kind} span could not be made: {type(error).__name__}")
                continue
            if self._observed is not None:
                self._observed(node)
            sleep(
                0
            )  # let the app's threads have the interpreter: they would wait five milliseconds for it else

    def _export(self, batch: list[OpenSpan]) -> bool:
        if not batch:
            return True
        exporter = self._exporter
        if exporter is None:
            exporter = self._exporter = self._factory()
        self._exporting_since = monotonic()
        try:
            done = (
                exporter.export([node.readable for node in batch if node.readable is not None])
                is SpanExportResult.SUCCESS
            )
        finally:
            self._exporting_since = None
        if not done:
            return False
        if self._delivered is not None:
            for node in batch:
                self._delivered(node, exporter)
        return True

    def _finish(self) -> None:
        try:
            if self._last is not None:
                self._last()
            if self._exporter is not None:
                self._exporter.shutdown()
        except Exception as error:  # noqa: BLE001  # an exporter's shutdown must not print a traceback at the user's exit
            self._report(f"shutting {self.name} down: {type(error).__name__}: {error}")

    def _report(self, problem: str) -> None:
        if self._limit.allows(monotonic()):
            logger.warning("crewmeter: %s; %d spans lost so far in this spell", problem, self._lost)
            self._lost = 0
