"""A running installation: what `instrument` sets up and `uninstrument` takes down.

Events and HTTP exchanges feed a recorder. Its finished spans go to batch processors, each with one
exporter.
"""

from __future__ import annotations

import atexit
import logging
import os
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.budget_hook.before_call import BeforeCallHook
from crewmeter.crewai.deferred_work import keep_accounts
from crewmeter.crewai.event_handler import EVENT_BUS_MODULE, EventHandler
from crewmeter.export.batch_processor import BatchProcessor
from crewmeter.export.exporters import hush_exporters, make_exporter
from crewmeter.export.import_wait import IMPORTING_S
from crewmeter.export.journal import Journal
from crewmeter.export.journal_format import journal_folder, ledger_file
from crewmeter.export.readable_span import readable, renew_lock
from crewmeter.export.span_observer import SpanObserver
from crewmeter.export.tracer_provider import AppTracerProvider
from crewmeter.http import observation
from crewmeter.http.deferred_requests import keep_request_accounts
from crewmeter.http.response_cache import observe_cache
from crewmeter.import_hook import when_imported
from crewmeter.providers.registry import declare_hosts
from crewmeter.settings import EMBEDDED, OTLP
from crewmeter.spans.context_propagation import carry_into_threads
from crewmeter.spans.correlation import note_cache_hit
from crewmeter.spans.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import TracerProvider

    from crewmeter.budget_hook.protocol import BudgetLookup
    from crewmeter.http.http_call import HttpExchange
    from crewmeter.settings import TracerSettings
    from crewmeter.spans.span import OpenSpan

__all__ = ["EXIT_BUDGET_S", "Installation"]

logger = logging.getLogger("crewmeter")

EXIT_BUDGET_S = 1.8
"""What everything we do at exit may take together (s), once the exporters are imported.

For that an app that ends with spans in no journal waits up to `IMPORTING_S`.
"""
ENDPOINT_BUDGET_S = 1.0
"""How much of it an endpoint gets (s). It may be dead, and the process takes time to end too."""
FAILING_BUDGET_S = 0.3
"""The same for one that failed or hung before."""
SHORTEST_BUDGET_S = 0.05
"""What each exporter gets even if those before it have used up the budget (s)."""


class Installation:
    """The parts of one `instrument` call."""

    def __init__(
        self,
        settings: TracerSettings,
        provider: TracerProvider | None,
        budgets: BudgetLookup | None = None,
    ) -> None:
        self._settings = settings
        self._app_provider = AppTracerProvider(provider, settings.service_name)
        self.recorder = Recorder(
            self._deliver,
            sampler=self._app_provider.sampler(),
            tracer=self._app_provider.tracer,
            base_scope=settings.scope,
        )
        self._before_call: BeforeCallHook | None = None
        if budgets is not None:
            self._before_call = BeforeCallHook(budgets, settings.scope)
        self._observer = SpanObserver(
            settings,
            self._app_provider.resource,
            self._before_call,
        )
        self._processors: list[BatchProcessor] = []
        for name in settings.exporters:
            processor = self._batch_processor(
                name,
                first=not self._processors,
            )
            self._processors.append(processor)
        self._event_handler = EventHandler(
            self.recorder,
            settings.content,
            before_call=self._before_call,
        )
        self._undo: list[Callable[[], None]] = []

    def _batch_processor(self, name: str, *, first: bool) -> BatchProcessor:
        """Make the processor of one exporter. The first also runs what is done once."""
        resource = self._app_provider.resource
        journal: Journal | None = None
        if name == EMBEDDED:
            ledger = ledger_file(self._settings.ledger)
            journal = Journal(journal_folder(ledger), resource) if ledger is not None else None
        processor = BatchProcessor(
            name,
            lambda: make_exporter(name, self._settings),
            resource,
            journal,
            self._settings.emitted,
        )
        processor.is_only = len(self._settings.exporters) == 1
        if first:
            processor.tick = self._tick
            processor.before_export = self._observer.before_export
            processor.after_export = self._observer.after_export
            processor.before_shutdown = self._observer.close
        return processor

    # --- set up and take down -----------------------------------------------------------------

    def install(self) -> None:
        """Start watching.

        CrewAI's event bus is wrapped now, or once CrewAI is imported. The exporters load meanwhile,
        in the background.
        """
        self._undo.append(declare_hosts(self._settings.hosts))
        opened = self.recorder.exchange_opened
        closed = self.recorder.exchange_closed
        if self._before_call is not None:
            opened = self._exchange_opened
            closed = self._exchange_closed
        undo_http = observation.install(opened=opened, closed=closed)
        self._undo.append(undo_http)
        self._undo.append(carry_into_threads())
        self._undo.append(observe_cache(note_cache_hit))
        self._undo.append(keep_accounts())
        self._undo.append(keep_request_accounts())
        self._undo.append(hush_exporters())
        self._undo.append(self._event_handler.uninstall)
        self._undo.append(when_imported(EVENT_BUS_MODULE, self._crewai_imported))
        if self._before_call is not None:
            self._undo.append(when_imported("crewai.hooks", self._event_handler.hooks_imported))
        atexit.register(self.close)
        _watch_forks(self)

    def _crewai_imported(self) -> None:
        observation.look_again()
        try:
            self._event_handler.install()
        except Exception:  # a CrewAI we cannot watch must still be one that can be imported
            logger.exception("this CrewAI can't be watched; nothing is recorded")
            return
        if self._before_call is not None:
            self._before_call.start()
        for processor in self._processors:
            processor.start()

    def uninstall(self) -> None:
        """Stop watching and leave everything as it was.

        What is finished is still delivered.
        """
        while self._undo:
            self._undo.pop()()
        self.close()
        atexit.unregister(self.close)
        _installations.discard(self)

    def flush(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds until every finished span is delivered.

        Returns:
            True if all are.
        """
        self._finish_late_exchanges()
        until = monotonic() + timeout
        done = True
        for processor in self._processors:
            remaining = max(0.0, until - monotonic())
            done = processor.flush(remaining) and done
        return done

    def close(self) -> None:
        """Abandon what is open and deliver what there is, within the exit budget."""
        self._finish_late_exchanges()
        self.recorder.abandon_all(time_ns())
        began = monotonic()
        until = began + EXIT_BUDGET_S
        for processor in self._processors:
            budget = min(
                until - monotonic(),
                _exit_budget(processor),
            )
            processor.close(
                max(SHORTEST_BUDGET_S, budget),
                began + IMPORTING_S,
            )

    def _finish_late_exchanges(self) -> None:
        observation.announce_late()
        self._event_handler.drain()

    def after_fork(self) -> None:
        """Begin afresh in a forked child.

        The parent's queue, open spans and exporters are the parent's.
        """
        self.recorder.reset_after_fork()
        self._observer.after_fork()
        if self._before_call is not None:
            self._before_call.after_fork()
        for processor in self._processors:
            processor.after_fork()

    # --- at work ------------------------------------------------------------------------------

    def _exchange_opened(self, exchange: HttpExchange) -> None:
        self.recorder.exchange_opened(exchange)
        if self._before_call is not None and exchange.operation == semconv.EMBEDDINGS:
            self._before_call.exchange_opened(exchange)

    def _exchange_closed(self, exchange: HttpExchange) -> None:
        self.recorder.exchange_closed(exchange)
        if self._before_call is not None and exchange.operation == semconv.EMBEDDINGS:
            self._before_call.exchange_closed(exchange)

    def _deliver(self, node: OpenSpan) -> None:
        """End the user's own span of a finished node, and queue it for our exporters."""
        ends_theirs = node.tracer is not None and node.otel_span.is_recording()
        if ends_theirs:
            self._end_theirs(node)
        try:
            # Before the processors wake, since they would take the interpreter from the caller.
            if self._before_call is not None and self._before_call.is_urgent(node):
                self._before_call.seen(node)
        finally:
            for processor in self._processors:
                if not (ends_theirs and self._is_exported_by_theirs(processor)):
                    processor.put(node)

    def _is_exported_by_theirs(self, processor: BatchProcessor) -> bool:
        """Return True where the user's provider sends to the endpoint of ``processor``."""
        if processor.name != OTLP or self._settings.endpoint is not None:
            return False
        return self._app_provider.exports_otlp

    def _end_theirs(self, node: OpenSpan) -> None:
        span = node.otel_span
        made = readable(
            node,
            self._app_provider.resource(),
            self._settings.emitted,
        )
        if made.name != node.name:
            span.update_name(made.name)
        span.set_attributes(dict(made.attributes or {}))
        for event in made.events:
            span.add_event(
                event.name,
                event.attributes,
                event.timestamp,
            )
        if node.error_type is not None:
            span.set_status(made.status)
        span.end(node.ended_ns)

    def _tick(self) -> None:
        observation.announce_late()
        self.recorder.sweep(time_ns())


def _exit_budget(processor: BatchProcessor) -> float:
    """Return how long a processor may take at exit (s)."""
    if processor.failing:
        return FAILING_BUDGET_S
    if processor.name == EMBEDDED:
        return EXIT_BUDGET_S
    return ENDPOINT_BUDGET_S


_installations: set[Installation] = set()
_watching = False


def _watch_forks(installation: Installation) -> None:
    """Notify an installation of forks as long as it is installed.

    Fork hooks cannot be taken out, so there is one for all.
    """
    global _watching
    _installations.add(installation)
    if not _watching and hasattr(os, "register_at_fork"):
        _watching = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    renew_lock()
    for installation in list(_installations):
        installation.after_fork()
