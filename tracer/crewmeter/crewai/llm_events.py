"""CrewAI's events of model calls: the start, the first chunk and the end of each.

Every model call passes here twice, on the app's thread, so the usual case takes few steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.crewai.display_names import has_mocked_client
from crewmeter.crewai.end_events import add_outcome, error_of, usage_of
from crewmeter.crewai.start_events import read_llm_call
from crewmeter.spans.labels import text

if TYPE_CHECKING:
    from crewmeter.budget_hook.before_call import BeforeCallHook
    from crewmeter.crewai.budget_hooks import BudgetHooks
    from crewmeter.crewai.event_to_span import EventRule
    from crewmeter.crewai.span_content import SpanContent
    from crewmeter.crewai.tool_call_ids import ToolCallIds
    from crewmeter.spans.recorder import Recorder
    from crewmeter.spans.span import OpenSpan

__all__ = ["LlmEvents"]


class LlmEvents:
    """The reader of model calls' events, which opens and closes their spans."""

    def __init__(
        self,
        recorder: Recorder,
        content: SpanContent,
        tool_calls: ToolCallIds,
        before_call: BeforeCallHook | None,
        budget_hooks: BudgetHooks | None,
    ) -> None:
        self._recorder = recorder
        self._content = content
        self._tool_calls = tool_calls
        self._before_call = before_call
        self._budget_hooks = budget_hooks
        self.inline = True
        """Events are seen where they happen, so spans can be made current there."""

    def start(self, source: Any, event: Any, now_ns: int) -> None:
        """Open the span of a call."""
        hooks = self._budget_hooks
        if hooks is not None and now_ns > hooks.next_check_ns:
            hooks.update_at(now_ns)
        # Pydantic takes 4 µs to say that this CrewAI's event has no such field.
        fields = vars(event)
        name, call, attributes = read_llm_call(source, fields)
        node = self._recorder.open(
            event.event_id,
            event.parent_event_id,
            semconv.KIND_LLM,
            name,
            at_ns=now_ns,
            key=text(fields.get("call_id")),
            attributes=attributes,
            call=call,
            current=self.inline,
        )
        self._recorder.watch_counter(source, call)
        if hooks is not None and hooks.registered and self._before_call is not None:
            self._before_call.call_started(node)
        if self._content.enabled:
            self._content.add(node, semconv.INPUT_MESSAGES, fields.get("messages"))

    def first_chunk(self, event: Any, now_ns: int) -> None:
        """Note when the first piece of an answer came."""
        node = self._recorder.find_call(event.call_id)
        if node is not None and node.call is not None and node.call.first_chunk_ns is None:
            node.call.first_chunk_ns = now_ns

    def end(self, rule: EventRule, source: Any, event: Any, now_ns: int) -> None:
        """Close the span of a call."""
        key = text(getattr(event, "call_id", None))
        node = self._recorder.match(
            semconv.KIND_LLM,
            event.started_event_id,
            key,
        )
        if node is None:
            node = self._renamed(event, key)
        if node is None or node.call is None:
            if self._recorder.find_ended_call(key, usage_of(event)) is None:
                self._record_unannounced(rule, source, event, now_ns)
            return
        try:
            if rule.failed:
                node.error_type = error_of(event)
            add_outcome(node.call, event)
            if not node.call.exchanges and has_mocked_client(source):
                node.call.not_sent = True
            response = getattr(event, "response", None)
            if type(response) is list:
                self._tool_calls.note(node, response)
            if rule.failed and node.error_type is not None:
                self._content.add_error(node, event, node.error_type)
            if self._content.enabled:
                self._content.add(node, semconv.OUTPUT_MESSAGES, response)
        finally:
            # Whatever else of it can't be read: the bill comes first.
            self._recorder.close(node, now_ns)

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
        name, call, _ = read_llm_call(source, vars(event))
        add_outcome(call, event)
        self._recorder.record(
            event.parent_event_id,
            semconv.KIND_LLM,
            name,
            at_ns=now_ns,
            call=call,
            error_type=error_of(event) if rule.failed else None,
        )
