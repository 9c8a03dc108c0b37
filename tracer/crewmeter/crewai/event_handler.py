"""The one module that imports CrewAI: a synchronous seam round its event bus, and the guard that keeps our faults from the app."""

from __future__ import annotations

import inspect
import logging
from functools import wraps
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.budget_hook.protocol import BudgetExceeded
from crewmeter.crewai.event_bus_listener import EventBusListener, descendants
from crewmeter.crewai.event_to_span import TABLE, Ending, EventRule, Opening, error_of, is_hidden
from crewmeter.log_rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.budget_hook.before_call import BeforeCallHook
    from crewmeter.redaction import Content
    from crewmeter.spans.recorder import Recorder
    from crewmeter.spans.span import OpenSpan

__all__ = ["EVENT_BUS_MODULE", "EventHandler"]

EVENT_BUS_MODULE = "crewai.events.event_bus"

_EMBEDS = frozenset({"memory_query_started", "memory_save_started", "knowledge_query_started"})
"""Events right before an embedding is bought."""
_MIND_NS = 100_000_000
"""How often (ns) model calls outside any run look whether there is a budget."""

logger = logging.getLogger("crewmeter")


class EventHandler:
    """Turns CrewAI's events into spans on a `Recorder`."""

    def __init__(
        self,
        recorder: Recorder,
        content: Content,
        *,
        look_again: Callable[[], None],
        before_call: BeforeCallHook | None = None,
    ) -> None:
        self._recorder = recorder
        self._content = content
        self._look_again = look_again
        self._before_call = before_call
        self._limit = RateLimit()
        self._is_replaying: Callable[[], bool] = lambda: False
        self._undo: list[Callable[[], None]] = []
        self._inline = True
        """Whether events are seen where they happen, so that spans can be made current there."""
        self._listener: EventBusListener | None = None
        self._unhook: Callable[[], None] | None = None
        """What takes our hooks out of CrewAI, while they are in."""
        self._budget_checked_ns = 0

    # --- the seam --------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put the seam in. Where CrewAI's bus has no such seam (any more), listen in public and say so once."""
        from crewai.events import event_bus

        self._is_replaying = getattr(event_bus, "is_replaying", self._is_replaying)
        bus = event_bus.CrewAIEventsBus
        if _takes_event(bus, "emit"):
            self._wrap(bus, "emit")
            if _takes_event(bus, "aemit"):
                self._wrap(bus, "aemit")
            return
        logger.warning(
            "crewmeter: this CrewAI has no event bus seam it knows; listening instead: books exact, nesting may suffer"
        )
        self._listen(event_bus.crewai_event_bus)

    def _listen(self, bus: Any) -> None:
        from crewai.events.base_events import BaseEvent

        self._inline = False
        self._recorder.correlator.holds = True
        self._listener = EventBusListener(bus, self.see)
        self._listener.start(descendants(BaseEvent))
        self._undo.append(self._listener.stop)

    def drain(self) -> None:
        """Handle events that wait to be put in order (only where the seam is missing)."""
        if self._listener is not None:
            self._listener.drain()

    def uninstall(self) -> None:
        """Take the seam out: the very same functions are back where they were."""
        self._release_before_call()
        self._before_call = None  # executors made meanwhile keep the hook
        while self._undo:
            self._undo.pop()()

    def hooks_imported(self) -> None:
        """CrewAI's hooks are there: an executor keeps those it finds when it is made, so ours must not come later."""
        if self._before_call is not None:
            self._update_before_call(self._before_call)

    def _update_before_call(self, before_call: BeforeCallHook) -> None:
        """Have CrewAI ask us before its calls while there is a budget to keep to, and only then: being asked costs every call."""
        if before_call.wanted != (self._unhook is not None):
            if self._unhook is None:
                self._set_before_call(before_call)
            else:
                self._release_before_call()

    def _release_before_call(self) -> None:
        unhook, self._unhook = self._unhook, None
        if unhook is not None:
            unhook()

    def _set_before_call(self, before_call: BeforeCallHook) -> None:
        """Ask the budgets before every model call, through CrewAI's own hook; a refusal reaches the caller as CrewAI means it to."""
        from crewai import hooks

        aborted = getattr(hooks, "HookAborted", None)  # before 1.15 a hook could only return False
        if aborted is not None:
            before_call.error = _both(aborted)

        def before_llm_call(context: Any) -> bool | None:
            refused = self._asked(before_call.refusal, context.llm, context.messages)
            if refused is not None and aborted is not None:
                raise refused
            return None if refused is None else False

        def before_tool_call(context: Any) -> bool | None:
            """Refuse the tool only; what stops the run is that its next model call is refused, too."""
            return (
                None
                if self._asked(before_call.tool_refusal, context.tool_name, context.tool_input)
                is None
                else False
            )

        hooks.register_before_llm_call_hook(before_llm_call)
        hooks.register_before_tool_call_hook(before_tool_call)

        def take_out() -> None:
            hooks.unregister_before_llm_call_hook(before_llm_call)
            hooks.unregister_before_tool_call_hook(before_tool_call)

        self._unhook = take_out

    def _asked(
        self, question: Callable[..., BudgetExceeded | None], *about: object
    ) -> BudgetExceeded | None:
        """The brake's answer; a fault of ours must not stop a call."""
        if self._before_call is None:
            return None
        try:
            return question(*about)
        except Exception as error:  # noqa: BLE001  # see above
            if self._limit.allows(monotonic()):
                logger.warning("crewmeter: could not ask the budgets: %s", type(error).__name__)
            return None

    def _wrap(self, bus: type, name: str) -> None:
        original = bus.__dict__[name]
        see = self.see
        if inspect.iscoroutinefunction(original):

            @wraps(original)
            async def seam(bus: Any, source: Any, event: Any) -> Any:
                now = time_ns()
                result = await original(bus, source, event)
                see(source, event, now)
                return result

        else:

            @wraps(original)
            def seam(bus: Any, source: Any, event: Any) -> Any:
                now = time_ns()
                result = original(bus, source, event)
                see(source, event, now)
                return result

        setattr(bus, name, seam)

        def restore() -> None:
            if bus.__dict__.get(name) is seam:
                setattr(bus, name, original)

        self._undo.append(restore)

    def see(self, source: Any, event: Any, now_ns: int) -> None:
        """Handle one event; whatever goes wrong in crewmeter ends here, in a log line now and then.

        Raises `BudgetExceeded` where memory or knowledge is about to embed and a hard budget is spent.
        """
        try:
            rule = TABLE.get(event.type)
            if rule is not None:
                self._handle(rule, source, event, now_ns)
        except Exception:  # the one guard: the app must run as if we were not there
            if self._limit.allows(monotonic()):
                logger.warning(
                    "crewmeter: could not account for a %s event (%d more unsaid)",
                    getattr(event, "type", type(event).__name__),
                    self._limit.held_back,
                    exc_info=self._content.enabled,
                )
        if self._before_call is not None and self._inline and event.type in _EMBEDS:
            refused = self._asked(self._before_call.memory_refusal)
            if refused is not None:
                raise refused

    # --- translation -----------------------------------------------------------------------------------------------

    def _handle(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        if self._is_replaying():
            return
        if rule.phase == "chunk":
            self._chunk(event, now_ns)
        elif rule.phase == "start":
            if self._before_call is not None and (
                rule.kind != semconv.KIND_LLM or now_ns - self._budget_checked_ns > _MIND_NS
            ):
                self._budget_checked_ns = now_ns
                self._update_before_call(self._before_call)
            self._start(rule, source, event, now_ns)
        elif rule.phase == "end":
            self._end(rule, source, event, now_ns)
        else:
            self._point(rule, source, event, now_ns)

    def _start(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> OpenSpan | None:
        parent_id = event.parent_event_id
        if is_hidden(rule, source):
            self._recorder.hide(event.event_id, parent_id)
            return None
        opening = rule.read(source, event)
        if not isinstance(opening, Opening):
            return None
        node = self._recorder.started(
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
        self._look_again()
        if opening.call is not None:
            self._recorder.correlator.counters.started(source, opening.call)
            if self._before_call is not None and self._unhook is not None:
                self._before_call.call_started(node)
        self._add_content(node, opening.content)
        return node

    def _end(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> OpenSpan | None:
        if is_hidden(rule, source):
            return None
        ending = rule.read(source, event)
        if not isinstance(ending, Ending):
            return None
        started_id = event.started_event_id if rule.scoped else None
        node = self._recorder.match(rule.kind, started_id, ending.key)
        if rule.kind == semconv.KIND_LLM:
            return self._end_call(rule, source, event, now_ns, node, ending)
        if node is not None:
            self._close(node, rule, event, ending, now_ns)
        return node

    def _end_call(
        self,
        rule: EventRule,
        source: Any,
        event: Any,
        now_ns: int,
        node: OpenSpan | None,
        ending: Ending,
    ) -> OpenSpan | None:
        usage = getattr(event, "usage", None)
        usage = usage if isinstance(usage, dict) else None
        if node is None:
            node = self._renamed(event, ending.key)
        if node is None or node.call is None:
            known = self._recorder.correlator.late(ending.key, usage)
            return known if known is not None else self._unannounced(rule, source, event, now_ns)
        call = node.call
        call.usage = usage
        call.finish_reason = _text(getattr(event, "finish_reason", None))
        call.response_id = _text(getattr(event, "response_id", None))
        self._close(node, rule, event, ending, now_ns)
        return node

    def _renamed(self, event: Any, key: str | None) -> OpenSpan | None:
        """The open call CrewAI pairs with this end, if the end's call id is new: a custom model outside `llm_call_context` gets two."""
        registry = self._recorder.registry
        named = registry.open.get(event.started_event_id)
        return (
            named
            if named is not None and named.call is not None and registry.find_call(key) is None
            else None
        )

    def _unannounced(
        self, rule: EventRule, source: Any, event: Any, now_ns: int
    ) -> OpenSpan | None:
        """A call that ends without having begun for us: a second bill under one call id, or begun before `instrument`."""
        opening = TABLE["llm_call_started"].read(source, event)
        if not isinstance(opening, Opening) or opening.call is None:
            return None
        opening.call.usage = getattr(event, "usage", None)
        opening.call.finish_reason = _text(getattr(event, "finish_reason", None))
        opening.call.response_id = _text(getattr(event, "response_id", None))
        error = error_of(event) if rule.failed else None
        return self._recorder.point(
            event.parent_event_id,
            semconv.KIND_LLM,
            opening.name,
            at_ns=now_ns,
            call=opening.call,
            error_type=error,
        )

    def _close(
        self, node: OpenSpan, rule: EventRule, event: Any, ending: Ending, now_ns: int
    ) -> None:
        node.attributes.update(ending.attributes)
        if rule.failed or ending.error_type is not None:
            node.error_type = ending.error_type or error_of(event)
            node.message = self._content.text(
                str(getattr(event, "error", None) or getattr(event, "failure", ""))
            )
        self._add_content(node, ending.content)
        self._recorder.close(node, now_ns)

    def _chunk(self, event: Any, now_ns: int) -> None:
        node = self._recorder.registry.find_call(event.call_id)
        if node is not None and node.call is not None and node.call.first_chunk_ns is None:
            node.call.first_chunk_ns = now_ns

    def _point(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        opening = rule.read(source, event)
        if not isinstance(opening, Opening):
            return
        error = error_of(event, event.type) if rule.failed else None
        self._recorder.point(
            event.parent_event_id,
            rule.kind,
            opening.name,
            at_ns=now_ns,
            scope=opening.scope,
            attributes=opening.attributes,
            error_type=error,
        )

    def _add_content(self, node: OpenSpan, content: tuple[tuple[str, object], ...]) -> None:
        if content and self._content.enabled:
            for name, value in content:
                text = self._content.text(value)
                if text is not None:
                    node.attributes[name] = text


def _both(aborted: type[Exception]) -> type[BudgetExceeded]:
    """`BudgetExceeded` for whoever called ``kickoff``, and CrewAI's own stop for what lies between, which would try again else."""
    return type(
        "BudgetExceeded",
        (BudgetExceeded, aborted),
        {"__module__": "crewmeter", "__doc__": BudgetExceeded.__doc__},
    )


def _takes_event(bus: type, name: str) -> bool:
    """True where the bus has the method ``name(self, source, event)`` itself."""
    method = bus.__dict__.get(name)
    if not inspect.isfunction(method):
        return False
    return list(inspect.signature(method).parameters) == ["self", "source", "event"]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
