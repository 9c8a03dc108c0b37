"""The queue and thread of one exporter: bounded, in the background, in batches.

It never stands in the app's way, also not at its exit.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import monotonic, sleep
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from crewmeter.export.import_wait import wait_for_import
from crewmeter.export.readable_span import readable
from crewmeter.log_rate_limit import RateLimit
from crewmeter.semconv.generations import Emitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

    from crewmeter.export.journal import Journal, Segment
    from crewmeter.spans.span import OpenSpan

__all__ = ["BatchProcessor"]

logger = logging.getLogger("crewmeter")

CAPACITY = 10_000
"""Spans waiting at most. Further ones are lost, counted and reported."""
BATCH = 512
DELAY_S = 0.1
"""How long the first span of a batch waits for company (s) in an idle app."""
LONGEST_DELAY_S = 0.4
"""The same under load, where a batch a tenth of a second costs more than it is worth."""
LOADED_SPANS = 8
"""Spans in one batch from which the next one may wait twice as long."""
YIELD_EVERY = 8
"""Spans made, in about a tenth of a millisecond, between two chances for the app's threads."""
MAX_ATTEMPTS = 20
"""Times a refused batch is tried (some ten minutes) before it is lost."""
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
POLL_S = 0.002
"""How often (s) a flush looks whether all is done."""
HANGING_S = 1.0
"""An export that takes longer (s) counts as failing."""
IDLE_S = 60.0
"""How often (s) an idle processor wakes for housekeeping."""


REPLAY_S = 10.0
"""How often (s) the journals of ended processes are looked for."""


class BatchProcessor:
    """One exporter's queue and thread.

    The exporter is made on that thread, since importing one may take a second.
    """

    def __init__(
        self,
        name: str,
        factory: Callable[[], SpanExporter],
        resource: Callable[[], Resource],
        journal: Journal | None = None,
        emitted: Emitted = Emitted(),  # noqa: B008 - immutable
    ) -> None:
        self.name = name
        self._emitted = emitted
        self._journal = journal
        self.tick: Callable[[], None] | None = None
        """Runs after every batch and every idle minute, on the thread."""
        self.before_export: Callable[[OpenSpan], None] | None = None
        """Receives each span once before its export, on the thread."""
        self.after_export: Callable[[OpenSpan, SpanExporter], None] | None = None
        """Receives each span once after its export, on the thread."""
        self.before_shutdown: Callable[[], None] | None = None
        """Runs before the exporter is shut down, on the thread."""
        self.is_only = False
        """True where no other processor exports the same nodes."""
        self._factory = factory
        self._resource = resource
        self._limit = RateLimit()
        self._retired: list[object] = []
        """Exporters of the process we were forked from. Closing them would disturb it."""
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
        self._delay_s = DELAY_S
        self._next_replay = 0.0
        self._exported: list[Segment] = []
        """A journal's file for each span that was exported and may not be in the ledger yet."""

    @property
    def failing(self) -> bool:
        """True after an export failed, until one succeeds, and while one hangs."""
        since = self._exporting_since
        hangs = since is not None and monotonic() - since > HANGING_S
        return self._failing or hangs

    # --- on the app's threads -----------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, which imports the exporter now. Does nothing when it runs."""
        with self._starting:
            if self._thread is not None or self._closing:
                return
            thread = threading.Thread(
                target=self._run,
                name=f"crewmeter-{self.name}",
                daemon=True,
            )
            self._thread = thread
        thread.start()

    def put(self, node: OpenSpan) -> None:
        """Queue a finished node. Never blocks.

        A full queue loses it, which the thread reports.
        """
        if self._journal is not None:
            self._journal.append(node)
        if len(self._queue) >= CAPACITY:
            # One in the journal is only late: it is read when the process has ended.
            self._lost += node.journal is None
            return
        self._queue.append(node)
        if node.run is node and (node.journal is None or self._delay_s == DELAY_S):
            # The end of a run is delivered at once. Under load the journal makes it safe as well.
            self._hurry.set()
        if not self._wake.is_set():
            self._wake.set()
            if self._thread is None:
                self.start()

    def flush(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds until all that was queued is exported.

        Returns:
            True if it was.
        """
        until = monotonic() + timeout
        self._hurry.set()
        while self._has_work():
            if monotonic() >= until:
                return False
            if self._queue and not self._refused:
                self._hurry.set()
            sleep(POLL_S)
        force_flush = getattr(self._exporter, "force_flush", None)
        if not callable(force_flush):
            return True
        remaining_ms = int((until - monotonic()) * 1000)
        return force_flush(max(1, remaining_ms)) is not False

    def _has_work(self) -> bool:
        return bool(self._queue or self._refused or self._busy or self._wake.is_set())

    def close(self, timeout: float, importing_until: float | None = None) -> bool:
        """Export what is queued and shut the exporter down, within ``timeout`` seconds.

        They begin when the exporter is imported, or its import hangs, or it is
        ``importing_until`` (monotonic). What remains then is lost and reported.

        Returns:
            True if nothing remains.
        """
        if self._thread is None and not self._queue:
            return True
        if self._queue:
            self.start()
        self._closing = True
        self._hurry.set()
        self._wake.set()
        thread = self._thread
        if thread is None:
            return True
        if thread is not threading.current_thread():
            wait_for_import(thread, self._needs_import, importing_until)
            thread.join(timeout)
        if not thread.is_alive():
            return True
        waiting = [node for node in (*self._queue, *self._refused) if node.journal is None]
        if waiting or self._lost:
            logger.warning(
                "gave up on %s at exit; %s not delivered",
                self.name,
                _spans(len(waiting) + self._lost),
            )
        return False

    def _needs_import(self) -> bool:
        """Return True while the exporter, which is not made yet, alone has what is queued."""
        if self._exporter is not None or self._failing:
            return False
        return any(node.journal is None for node in (*self._queue, *self._refused))

    def after_fork(self) -> None:
        """Begin afresh in a forked child: an empty queue, and a new thread on use."""
        self._retired.append(self._exporter)
        self._reset()
        if self._journal is not None:
            self._journal.after_fork()

    # --- on the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        self._warm_up()
        while True:
            self._wait()
            self._busy = True
            self._wake.clear()
            self._hurry.clear()
            try:
                self._adapt_delay(len(self._queue))
                self._drain()
                if self.tick is not None:
                    self.tick()
                self._release_journal()
                self._replay_journals()
            # The thread must outlive whatever an exporter does.
            except Exception as error:  # noqa: BLE001
                self._note_failure()
                problem = f"cannot deliver to {self.name}: {type(error).__name__}: {error}"
                self._report(problem)
            self._busy = False
            if self._closing and not self._queue and not self._refused:
                self._finish()
                return

    def _wait(self) -> None:
        """Sleep until there is a batch to export, one to try again, or the minute is over."""
        if self._closing:
            return
        if self._refused:
            backoff_s = FIRST_BACKOFF_S * 2**self._attempts
            self._hurry.wait(min(LONGEST_BACKOFF_S, backoff_s))
        elif self._wake.wait(IDLE_S if self._journal is None else REPLAY_S):
            self._hurry.wait(self._delay_s)

    def _adapt_delay(self, waiting: int) -> None:
        """Wait longer for the next batch where this one is large, shorter where small."""
        factor = 2.0 if waiting >= LOADED_SPANS else 0.5
        self._delay_s = min(
            LONGEST_DELAY_S,
            max(DELAY_S, self._delay_s * factor),
        )

    def _warm_up(self) -> None:
        """Load the exporter in advance, so that the first batch does not wait for imports."""
        try:
            exporter = self._exporter = self._factory()
            warm_up = getattr(exporter, "warm_up", None)
            if callable(warm_up):
                warm_up()
        # Reported here, and tried again with the first batch.
        except Exception as error:  # noqa: BLE001
            self._report(f"cannot set up {self.name}: {type(error).__name__}: {error}")

    def _drain(self) -> None:
        """Export what is queued now, a batch at a time, until an export is refused.

        What comes meanwhile waits for company, since many small batches cost more than a large one.
        """
        waiting = len(self._queue)
        while waiting > 0 or self._refused:
            if not self._refused:
                self._refused = self._next_batch(min(BATCH, waiting))
                waiting -= BATCH
            if not self._export(self._refused):
                self._note_failure()
                held = len(self._refused) + len(self._queue)
                self._report(f"{self.name} cannot be reached or refuses; waiting: {_spans(held)}")
                return
            self._failing = False
            self._refused = []
        if self._lost:
            self._report(f"the queue to {self.name} was full")

    def _note_failure(self) -> None:
        """Count a refusal. After too many of them, or at exit, the batch is lost."""
        self._failing = True
        self._attempts += 1
        if self._closing or self._attempts >= MAX_ATTEMPTS:
            self._lost += len(self._refused)
            self._refused = []

    def _next_batch(self, size: int) -> list[OpenSpan]:
        """Take ``size`` nodes from the queue and make their spans.

        A node that cannot be made a span is dropped alone.
        """
        self._attempts = 0
        resource = self._resource()
        batch: list[OpenSpan] = []
        for number in range(size):
            node = self._queue.popleft()
            try:
                readable(node, resource, self._emitted)
            except Exception as error:  # noqa: BLE001  # one odd span must not hold up the rest
                self._lost += 1
                self._report(f"a {node.kind} span could not be made: {type(error).__name__}")
                continue
            batch.append(node)
            if self.before_export is not None:
                self.before_export(node)
            if number % YIELD_EVERY == YIELD_EVERY - 1:
                # Else the app's threads would wait five milliseconds for the interpreter.
                sleep(0)
        return batch

    def _export(self, batch: list[OpenSpan]) -> bool:
        """Export a batch. Return False where it is refused."""
        if not batch:
            return True
        exporter = self._exporter
        if exporter is None:
            exporter = self._exporter = self._factory()
        spans = [node.readable for node in batch if node.readable is not None]
        self._exporting_since = monotonic()
        try:
            result = exporter.export(spans)
        finally:
            self._exporting_since = None
        if result is not SpanExportResult.SUCCESS:
            return False
        self._exported += [node.journal for node in batch if node.journal is not None]
        if self.after_export is not None:
            for node in batch:
                self.after_export(node, exporter)
        if self.is_only:
            # Late children may look for their ended parents long after, and need no attributes.
            for node in batch:
                node.readable = None
                node.final_attributes = None
        return True

    def _finish(self) -> None:
        try:
            if self.before_shutdown is not None:
                self.before_shutdown()
            if self._exporter is not None:
                self._exporter.shutdown()
            self._release_journal()
            if self._journal is not None:
                self._journal.close()
        except Exception as error:  # noqa: BLE001  # no traceback at the user's exit
            self._report(f"shutting {self.name} down: {type(error).__name__}: {error}")

    def _replay_journals(self) -> None:
        """Let the exporter write what ended processes left, now and then."""
        replay = getattr(self._exporter, "replay_journals", None)
        if self._journal is None or not callable(replay) or monotonic() < self._next_replay:
            return
        self._next_replay = monotonic() + REPLAY_S
        replay()

    def _release_journal(self) -> None:
        """Let go of what the journal holds, if the exporter has written all it was given."""
        if self._journal is None or not self._exported:
            return
        if getattr(self._exporter, "is_durable", True):
            exported = self._exported
            self._exported = []
            self._journal.release(exported)

    def _report(self, problem: str) -> None:
        if self._limit.allows(monotonic()):
            logger.warning("%s; lost since the last message: %s", problem, _spans(self._lost))
            self._lost = 0


def _spans(count: int) -> str:
    return "1 span" if count == 1 else f"{count:,} spans"
