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
from crewmeter.crewai.display_names import has_mocked_client
from crewmeter.crewai.end_events import Ending, add_outcome, error_of, usage_of
from crewmeter.crewai.event_bus_listener import EventBusListener, descendants
from crewmeter.crewai.event_to_span import TABLE, is_hidden
from crewmeter.crewai.messages import messages_text
from crewmeter.crewai.span_events import SPAN_EVENTS, span_event_attributes
from crewmeter.crewai.start_events import Opening
from crewmeter.crewai.tool_call_ids import ToolCallIds
from crewmeter.log_rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.budget_hook.before_call import BeforeCallHook
    from crewmeter.crewai.event_to_span import EventRule
    from crewmeter.redaction import Content
    from crewmeter.spans.model_call import ModelCall
    from crewmeter.spans.recorder import Recorder
    from crewmeter.spans.span import OpenSpan

__all__ = ["EVENT_BUS_MODULE", "EventHandler"]

EVENT_BUS_MODULE = "crewai.events.event_bus"

_EMBEDDING_EVENTS = frozenset(
    {"memory_query_started", "memory_save_started", "knowledge_query_started"}
)
"""Events right before an embedding is bought."""

_ROLES = {semconv.INPUT_MESSAGES: "user", semconv.OUTPUT_MESSAGES: "assistant"}
"""Attribute of messages → who says one that does not tell."""

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
        self._content = content
        self._before_call = before_call
        self._budget_hooks = BudgetHooks(before_call) if before_call is not None else None
        self._limit = RateLimit()
        self._turns = ConversationTurns()
        self._tool_calls = ToolCallIds()
        self._is_replaying: Callable[[], bool] = lambda: False
        self._undo: list[Callable[[], None]] = []
        self._inline = True
        """Events are seen where they happen, so spans can be made current there."""
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

        self._inline = False
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
        if self._budget_hooks is None or not self._inline:
            return
        refused = self._budget_hooks.refusal(before_call.memory_refusal)
        if refused is not None:
            raise refused

    def _apply(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        if rule.phase == "chunk":
            self._note_first_chunk(event, now_ns)
        elif rule.phase == "start":
            if self._budget_hooks is not None:
                is_call = rule.kind == semconv.KIND_LLM
                self._budget_hooks.update_now_and_then(now_ns, at_once=not is_call)
            self._start(rule, source, event, now_ns)
        elif rule.phase == "end":
            self._end(rule, source, event, now_ns)
        else:
            self._record(rule, source, event, now_ns)

    def _start(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        parent_id = event.parent_event_id
        if is_hidden(rule, source):
            self._recorder.hide(event.event_id, parent_id)
            return
        opening = rule.read(source, event)
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
            call=opening.call,
            is_run=opening.is_run,
            current=self._inline,
        )
        if opening.labels:
            node.labels = opening.labels
        if opening.call is not None:
            self._start_call(source, node, opening.call)
        elif rule.kind == semconv.KIND_TOOL and opening.key is not None:
            call_id = self._tool_calls.take(node, opening.key)
            if call_id is not None:
                node.attributes[semconv.TOOL_CALL_ID] = call_id
        self._add_content(node, opening.content)

    def _start_call(self, source: Any, node: OpenSpan, call: ModelCall) -> None:
        self._recorder.watch_counter(source, call)
        if self._budget_hooks is None or self._before_call is None:
            return
        if self._budget_hooks.registered:
            self._before_call.call_started(node)

    def _end(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        if is_hidden(rule, source):
            return
        ending = rule.read(source, event)
        if not isinstance(ending, Ending):
            return
        started_id = event.started_event_id if rule.scoped else None
        node = self._recorder.match(
            rule.kind,
            started_id,
            ending.key,
        )
        if rule.kind == semconv.KIND_LLM:
            self._end_call(
                rule,
                source,
                event,
                now_ns,
                node,
                ending,
            )
        elif node is not None:
            self._close(
                node,
                rule,
                event,
                ending,
                now_ns,
            )

    def _end_call(
        self,
        rule: EventRule,
        source: Any,
        event: Any,
        now_ns: int,
        node: OpenSpan | None,
        ending: Ending,
    ) -> None:
        if node is None:
            node = self._renamed(event, ending.key)
        if node is not None and node.call is not None:
            try:
                add_outcome(node.call, event)
                if not node.call.exchanges and has_mocked_client(source):
                    node.call.not_sent = True
                self._tool_calls.note(node, getattr(event, "response", None))
            finally:
                self._close(
                    node,
                    rule,
                    event,
                    ending,
                    now_ns,
                )
        elif self._recorder.find_ended_call(ending.key, usage_of(event)) is None:
            self._record_unannounced(rule, source, event, now_ns)

    def _renamed(self, event: Any, key: str | None) -> OpenSpan | None:
        """Return the open call that CrewAI pairs with an end whose call id is new.

        A custom model outside ``llm_call_context`` gets two ids.
        """
        named = self._recorder.find_open(event.started_event_id)
        if named is None or named.call is None:
            return None
        if self._recorder.find_call(key) is None:
            return named
        return None

    def _record_unannounced(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        """Record a call that ends without having begun for us.

        It is a second bill under one call id, or it began before `instrument`.
        """
        opening = TABLE["llm_call_started"].read(source, event)
        if not isinstance(opening, Opening) or opening.call is None:
            return
        add_outcome(opening.call, event)
        self._recorder.record(
            event.parent_event_id,
            semconv.KIND_LLM,
            opening.name,
            at_ns=now_ns,
            call=opening.call,
            error_type=error_of(event) if rule.failed else None,
        )

    def _close(
        self, node: OpenSpan, rule: EventRule, event: Any, ending: Ending, now_ns: int
    ) -> None:
        """End a span, whatever its content does: the bill comes first."""
        try:
            node.attributes.update(ending.attributes)
            if rule.failed or ending.error_type is not None:
                node.error_type = ending.error_type or error_of(event)
                error = getattr(event, "error", None) or getattr(event, "failure", "")
                node.message = self._content.text(str(error))
            self._add_content(node, ending.content)
        finally:
            self._recorder.close(node, now_ns)

    def _note_first_chunk(self, event: Any, now_ns: int) -> None:
        node = self._recorder.find_call(event.call_id)
        if node is not None and node.call is not None and node.call.first_chunk_ns is None:
            node.call.first_chunk_ns = now_ns

    def _record(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        """Record an event that is a span without duration."""
        opening = rule.read(source, event)
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

    def _add_content(self, node: OpenSpan, content: tuple[tuple[str, object], ...]) -> None:
        if not self._content.enabled:
            return
        for name, value in content:
            role = _ROLES.get(name)
            if role is not None and self._content.as_messages:
                text = messages_text(value, role, self._content)
            else:
                text = self._content.text(value)
            if text is not None:
                node.attributes[name] = text


def _takes_event(bus: type, name: str) -> bool:
    """Return True where the bus has the method ``name(self, source, event)`` itself."""
    method = bus.__dict__.get(name)
    if not inspect.isfunction(method):
        return False
    return list(inspect.signature(method).parameters) == ["self", "source", "event"]
