"""The wrapper round CrewAI's event bus, and the guard against our own faults."""

from __future__ import annotations

import inspect
import logging
from functools import wraps
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.crewai.budget_hooks import BudgetHooks
from crewmeter.crewai.conversation_turns import TURN_ENDS, TURN_START, ConversationTurns
from crewmeter.crewai.end_events import Ending, error_of
from crewmeter.crewai.event_bus_listener import EventBusListener, descendants
from crewmeter.crewai.event_to_span import TABLE, is_hidden
from crewmeter.crewai.llm_events import LlmEvents
from crewmeter.crewai.span_content import SpanContent
from crewmeter.crewai.span_events import SPAN_EVENTS, span_event_attributes
from crewmeter.crewai.start_events import Opening
from crewmeter.crewai.tool_call_ids import ToolCallIds
from crewmeter.log_rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.budget_hook.before_call import BeforeCallHook
    from crewmeter.crewai.event_to_span import EventRule
    from crewmeter.redaction import Content
    from crewmeter.spans.recorder import Recorder
    from crewmeter.spans.span import OpenSpan

    _Read = Callable[[Any, Any], Opening | Ending]

__all__ = ["EVENT_BUS_MODULE", "EventHandler"]

EVENT_BUS_MODULE = "crewai.events.event_bus"

_EMBEDDING_EVENTS = frozenset(
    {"memory_query_started", "memory_save_started", "knowledge_query_started"}
)
"""Events right before an embedding is bought."""

logger = logging.getLogger("crewmeter")


class EventHandler:
    """The reader of CrewAI's events, which opens and closes spans on a `Recorder`."""

    def __init__(
        self,
        recorder: Recorder,
        content: Content,
        *,
        before_call: BeforeCallHook | None = None,
    ) -> None:
        self._recorder = recorder
        self._content = SpanContent(content)
        self._before_call = before_call
        self._budget_hooks = BudgetHooks(before_call) if before_call is not None else None
        self._limit = RateLimit()
        self._turns = ConversationTurns()
        self._tool_calls = ToolCallIds()
        self._llm = LlmEvents(
            recorder,
            self._content,
            self._tool_calls,
            before_call,
            self._budget_hooks,
        )
        self._is_replaying: Callable[[], bool] = lambda: False
        self._undo: list[Callable[[], None]] = []
        self._listener: EventBusListener | None = None

    # --- the event bus ------------------------------------------------------------------------

    def install(self) -> None:
        """Wrap the event bus. Where it has changed too much, listen in public and say so."""
        from crewai.events import event_bus

        self._is_replaying = getattr(event_bus, "is_replaying", self._is_replaying)
        bus = event_bus.CrewAIEventsBus
        if not _takes_event(bus, "emit"):
            logger.warning(
                "this CrewAI has no event bus it knows how to wrap; "
                "listening instead: books exact, nesting may suffer"
            )
            self._listen(event_bus.crewai_event_bus)
            return
        self._wrap(bus, "emit")
        if _takes_event(bus, "aemit"):
            self._wrap(bus, "aemit")

    def _listen(self, bus: Any) -> None:
        from crewai.events.base_events import BaseEvent

        self._llm.inline = False
        self._recorder.hold_exchanges()
        self._listener = EventBusListener(bus, self.handle)
        self._listener.start(descendants(BaseEvent))
        self._undo.append(self._listener.stop)

    def _wrap(self, bus: type, name: str) -> None:
        original = bus.__dict__[name]
        handle = self.handle
        if inspect.iscoroutinefunction(original):

            @wraps(original)
            async def wrapper(bus: Any, source: Any, event: Any) -> Any:
                now = time_ns()
                result = await original(bus, source, event)
                handle(source, event, now)
                return result

        else:

            @wraps(original)
            def wrapper(bus: Any, source: Any, event: Any) -> Any:
                now = time_ns()
                result = original(bus, source, event)
                handle(source, event, now)
                return result

        setattr(bus, name, wrapper)

        def restore() -> None:
            if bus.__dict__.get(name) is wrapper:
                setattr(bus, name, original)

        self._undo.append(restore)

    def drain(self) -> None:
        """Handle events that wait to be put in order (only where the bus is not wrapped)."""
        if self._listener is not None:
            self._listener.drain()

    def uninstall(self) -> None:
        """Put the very same functions back."""
        if self._budget_hooks is not None:
            self._budget_hooks.disable()
        self._before_call = None
        while self._undo:
            self._undo.pop()()

    def hooks_imported(self) -> None:
        """Register the budget hooks as soon as CrewAI's hooks are imported.

        An executor uses the hooks it finds when it is made, so ours must not come later.
        """
        if self._budget_hooks is not None:
            self._budget_hooks.update()

    # --- one event ----------------------------------------------------------------------------

    def handle(self, source: Any, event: Any, now_ns: int) -> None:
        """Handle one event. What goes wrong in crewmeter ends here, in a rare log line.

        Raises:
            BudgetExceeded: Memory or knowledge is about to embed, and a hard budget is spent.
        """
        try:
            rule = TABLE.get(event.type)
            if rule is None:
                self._add_span_event(source, event, now_ns)
            elif not self._is_replaying():
                self._apply(rule, source, event, now_ns)
        except Exception:  # the guard: the app must run as if we were not there
            if self._limit.allows(monotonic()):
                logger.warning(
                    "could not account for a %s event (%d more unsaid)",
                    getattr(event, "type", type(event).__name__),
                    self._limit.held_back,
                    exc_info=self._content.enabled,
                )
        if self._before_call is not None and event.type in _EMBEDDING_EVENTS:
            self._refuse_embedding(self._before_call)

    def _add_span_event(self, source: Any, event: Any, now_ns: int) -> None:
        """Add an event that opens and closes nothing to the span around it."""
        if event.type == TURN_START or event.type in TURN_ENDS:
            self._turns.note(source, event)
        elif event.type in SPAN_EVENTS and not self._is_replaying():
            attributes = span_event_attributes(event)
            self._recorder.add_event(
                event.parent_event_id,
                event.type,
                attributes,
                now_ns,
            )

    def _refuse_embedding(self, before_call: BeforeCallHook) -> None:
        """Raise `BudgetExceeded` where an embedding must not be made here."""
        if self._budget_hooks is None or not self._llm.inline:
            return
        refused = self._budget_hooks.refusal(before_call.memory_refusal)
        if refused is not None:
            raise refused

    def _apply(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        read = rule.read
        if read is None:  # a model call's
            if rule.phase == "start":
                self._llm.start(source, event, now_ns)
            elif rule.phase == "end":
                self._llm.end(rule, source, event, now_ns)
            else:
                self._llm.first_chunk(event, now_ns)
        elif rule.phase == "start":
            if self._budget_hooks is not None:
                self._budget_hooks.update_at(now_ns)
            self._start(rule, read, source, event, now_ns)
        elif rule.phase == "end":
            self._end(rule, read, source, event, now_ns)
        else:
            self._record(rule, read, source, event, now_ns)

    def _start(self, rule: EventRule, read: _Read, source: Any, event: Any, now_ns: int) -> None:
        parent_id = event.parent_event_id
        if is_hidden(rule, source):
            self._recorder.hide(event.event_id, parent_id)
            return
        opening = read(source, event)
        if not isinstance(opening, Opening):
            return
        if rule.kind == semconv.KIND_FLOW:
            opening.scope = {
                **(opening.scope or {}),
                **self._turns.scope_of(source),
            }
        node = self._recorder.open(
            event.event_id,
            parent_id,
            rule.kind,
            opening.name,
            at_ns=now_ns,
            key=opening.key,
            scope=opening.scope,
            attributes=opening.attributes,
            is_run=opening.is_run,
            current=self._llm.inline,
        )
        if opening.labels:
            node.labels = opening.labels
        if rule.kind == semconv.KIND_TOOL and opening.key is not None:
            call_id = self._tool_calls.take(node, opening.key)
            if call_id is not None:
                node.attributes[semconv.TOOL_CALL_ID] = call_id
        for name, value in opening.content:
            self._content.add(node, name, value)

    def _end(self, rule: EventRule, read: _Read, source: Any, event: Any, now_ns: int) -> None:
        if is_hidden(rule, source):
            return
        ending = read(source, event)
        if not isinstance(ending, Ending):
            return
        started_id = event.started_event_id if rule.scoped else None
        node = self._recorder.match(
            rule.kind,
            started_id,
            ending.key,
        )
        if node is not None:
            self._close(
                node,
                rule,
                event,
                ending,
                now_ns,
            )

    def _close(
        self, node: OpenSpan, rule: EventRule, event: Any, ending: Ending, now_ns: int
    ) -> None:
        """End a span, whatever its content does: the bill comes first."""
        try:
            node.attributes.update(ending.attributes)
            if rule.failed or ending.error_type is not None:
                self._content.add_error(node, event, ending.error_type or error_of(event))
            for name, value in ending.content:
                self._content.add(node, name, value)
        finally:
            self._recorder.close(node, now_ns)

    def _record(self, rule: EventRule, read: _Read, source: Any, event: Any, now_ns: int) -> None:
        """Record an event that is a span without duration."""
        opening = read(source, event)
        if not isinstance(opening, Opening):
            return
        self._recorder.record(
            event.parent_event_id,
            rule.kind,
            opening.name,
            at_ns=now_ns,
            scope=opening.scope,
            attributes=opening.attributes,
            error_type=error_of(event, event.type) if rule.failed else None,
        )


def _takes_event(bus: type, name: str) -> bool:
    """Return True where the bus has the method ``name(self, source, event)`` itself."""
    method = bus.__dict__.get(name)
    if not inspect.isfunction(method):
        return False
    return list(inspect.signature(method).parameters) == ["self", "source", "event"]
