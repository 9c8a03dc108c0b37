"""One running installation: the tap and the wire feed a recorder, whose finished spans go to couriers and their exporters."""

from __future__ import annotations

import atexit
import logging
import os
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.budget_hook.before_call import BeforeCallHook
from crewmeter.crewai.event_handler import EVENT_BUS_MODULE, EventHandler
from crewmeter.crewai.import_hook import when_imported
from crewmeter.export.batch_processor import BatchProcessor
from crewmeter.export.exporters import hush_exporters, make_exporter
from crewmeter.export.readable_span import readable
from crewmeter.export.span_observer import SpanObserver
from crewmeter.export.tracer_provider import Providers
from crewmeter.http import observation
from crewmeter.settings import EMBEDDED, OTLP
from crewmeter.spans.context_propagation import carry_into_threads
from crewmeter.spans.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import TracerProvider

    from crewmeter.budget_hook.before_call import Guard
    from crewmeter.settings import TracerSettings
    from crewmeter.spans.model_call import HttpExchange
    from crewmeter.spans.span import OpenSpan

__all__ = ["EXIT_BUDGET_S", "Installation"]

logger = logging.getLogger("crewmeter")

EXIT_BUDGET_S = 1.8
"""What everything we do at exit may take together (s)."""
ENDPOINT_BUDGET_S = 1.0
"""How much of it an endpoint gets (s): it may be dead, and the process takes its time to end besides."""
FAILING_BUDGET_S = 0.3
"""The same for one that failed or hung before."""


class Installation:
    """Everything `instrument` sets up and `uninstrument` takes down."""

    def __init__(
        self, settings: TracerSettings, provider: TracerProvider | None, guard: Guard | None = None
    ) -> None:
        self._settings = settings
        self._providers = Providers(provider, settings.service_name)
        self.recorder = Recorder(
            self._deliver,
            sampler=self._providers.sampler(),
            tracer=self._providers.tracer,
            base_scope=settings.scope,
        )
        before_call = self._before_call = (
            BeforeCallHook(guard, settings.scope) if guard is not None else None
        )
        self._observer = SpanObserver(settings, self._providers.resource, before_call)
        self._couriers = [
            self._batch_processor(name, first=position == 0)
            for position, name in enumerate(settings.exporters)
        ]
        self._event_handler = EventHandler(
            self.recorder,
            settings.content,
            look_again=observation.look_again,
            before_call=before_call,
        )
        self._undo: list[Callable[[], None]] = []

    def _batch_processor(self, name: str, *, first: bool) -> BatchProcessor:
        return BatchProcessor(
            name,
            lambda: make_exporter(name, self._settings),
            self._providers.resource,
            tick=self._tick if first else None,
            observed=self._observer.see if first else None,
            delivered=self._observer.delivered if first else None,
            last=self._observer.close if first else None,
        )

    def install(self) -> None:
        """Start watching. The tap goes in now, or once CrewAI is imported; exporters load meanwhile, in the background."""
        self._undo.append(observation.install(opened=self._opened, closed=self._closed))
        self._undo.append(carry_into_threads())
        self._undo.append(hush_exporters())
        self._undo.append(self._event_handler.uninstall)
        self._undo.append(when_imported(EVENT_BUS_MODULE, self._crewai_imported))
        if self._before_call is not None:
            self._undo.append(when_imported("crewai.hooks", self._event_handler.hooks_imported))
        atexit.register(self.close)
        _watch_forks(self)

    def _opened(self, exchange: HttpExchange) -> None:
        self.recorder.correlator.opened(exchange)
        if self._before_call is not None and exchange.operation == semconv.EMBEDDINGS:
            self._before_call.exchange_opened(exchange)

    def _closed(self, exchange: HttpExchange) -> None:
        self.recorder.correlator.closed(exchange)
        if self._before_call is not None and exchange.operation == semconv.EMBEDDINGS:
            self._before_call.exchange_closed(exchange)

    def _crewai_imported(self) -> None:
        try:
            self._event_handler.install()
        except Exception:  # a CrewAI we can't watch must still be a CrewAI that can be imported
            logger.exception("crewmeter: this CrewAI can't be watched; nothing is recorded")
            return
        if self._before_call is not None:
            self._before_call.start()
        for batch_processor in self._couriers:
            batch_processor.start()

    def uninstall(self) -> None:
        """Stop watching and leave everything as it was; what is finished is still delivered."""
        while self._undo:
            self._undo.pop()()
        self.close()
        atexit.unregister(self.close)
        _meters.discard(self)

    def flush(self, timeout: float) -> bool:
        """Wait until every finished span is delivered, at most ``timeout`` seconds. True if all are."""
        observation.settle()
        self._event_handler.drain()
        until = monotonic() + timeout
        done = [
            batch_processor.flush(max(0.0, until - monotonic()))
            for batch_processor in self._couriers
        ]
        return all(done)

    def close(self) -> None:
        """Abandon what is open and deliver what there is, within the exit budget."""
        observation.settle()
        self._event_handler.drain()
        self.recorder.abandon_all(time_ns())
        until = monotonic() + EXIT_BUDGET_S
        for batch_processor in self._couriers:
            budget = EXIT_BUDGET_S if batch_processor.name == EMBEDDED else ENDPOINT_BUDGET_S
            batch_processor.close(
                max(
                    0.05,
                    min(
                        until - monotonic(), FAILING_BUDGET_S if batch_processor.failing else budget
                    ),
                )
            )

    def _deliver(self, node: OpenSpan) -> None:
        """A node is finished: end the user's provider's span, if any, and queue it for our own exporters."""
        theirs = node.tracer is not None and node.otel_span.is_recording()
        if theirs:
            self._end_theirs(node)
        try:
            if self._before_call is not None and self._before_call.is_urgent(node):
                self._before_call.seen(
                    node
                )  # before the couriers wake: they would take the interpreter from the caller
        finally:
            for batch_processor in self._couriers:
                if not (
                    theirs
                    and batch_processor.name == OTLP
                    and self._settings.endpoint is None
                    and self._providers.exports_otlp
                ):
                    batch_processor.put(node)

    def _end_theirs(self, node: OpenSpan) -> None:
        span = node.otel_span
        made = readable(node, self._providers.resource())
        span.set_attributes(dict(made.attributes or {}))
        if node.error_type is not None:
            span.set_status(made.status)
        span.end(node.ended_ns)

    def _tick(self) -> None:
        observation.settle()
        self.recorder.sweep(time_ns())

    def after_fork(self) -> None:
        """In a forked child: the parent's queue, open spans and exporters are the parent's."""
        self.recorder.reset_after_fork()
        self.recorder.correlator.forget_pending()
        self._observer.after_fork()
        if self._before_call is not None:
            self._before_call.after_fork()
        for batch_processor in self._couriers:
            batch_processor.after_fork()


def _forked() -> None:
    for meter in list(_meters):
        meter.after_fork()


_meters: set[Installation] = set()
_watching = False


def _watch_forks(meter: Installation) -> None:
    """Tell ``meter`` of forks for as long as it is installed. Fork hooks can't be taken out, so there is one for all."""
    global _watching
    _meters.add(meter)
    if not _watching and hasattr(os, "register_at_fork"):
        _watching = True
        os.register_at_fork(after_in_child=_forked)
