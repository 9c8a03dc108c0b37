"""The match between CrewAI's events and HTTP exchanges.

Events say where in the crew a call belongs, an exchange says what was billed. Every exchange ends
up on exactly one billed span.
"""

from __future__ import annotations

import sys
import threading
from time import time_ns
from typing import TYPE_CHECKING

from crewmeter import attribution, semconv
from crewmeter.spans.context_propagation import node_here, raw_node
from crewmeter.spans.llm_counters import LlmCounters
from crewmeter.spans.model_call import ExchangeOwner, ModelCall, is_known, main_exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.http.http_call import HttpExchange
    from crewmeter.spans.active_spans import ActiveSpans
    from crewmeter.spans.recorder import Recorder
    from crewmeter.spans.span import OpenSpan
    from crewmeter.usage.token_usage import TokenUsage

__all__ = ["Correlator", "note_cache_hit"]

_INFERENCE = frozenset({semconv.CHAT, semconv.TEXT_COMPLETION, semconv.GENERATE_CONTENT})
_SLACK_NS = 5_000_000
"""How far (ns) an event's clock may be off its exchange's."""
_KINDS = {semconv.EMBEDDINGS: semconv.KIND_EMBEDDING, semconv.RERANK: semconv.KIND_EMBEDDING}


class Correlator:
    """The matcher of HTTP exchanges and model calls.

    Its lock guards flags only and is never held across other code.
    """

    def __init__(self, recorder: Recorder, active: ActiveSpans) -> None:
        self._recorder = recorder
        self._active = active
        self._lock = threading.Lock()
        self._pending: dict[str, OpenSpan] = {}
        self._held: list[HttpExchange] = []
        self.holds = False
        """Events come late, so finished exchanges wait a moment for the call they belong to."""
        self.counters = LlmCounters()

    # --- exchanges ----------------------------------------------------------------------------

    def exchange_opened(self, exchange: HttpExchange) -> None:
        """Note whose a request is, in its caller's context.

        One outside runs, `attribute` blocks and CrewAI's code is nobody's, and is not billed.
        """
        node = raw_node()
        while node is not None and node.ended_ns is not None:
            node = node.parent
        account = attribution.current()
        if node is None and account is None and not _called_by_crewai():
            return
        exchange.owner = ExchangeOwner(node, account)
        if node is None or node.call is None or node.kind != semconv.KIND_LLM:
            return
        if exchange.operation in _INFERENCE:
            node.call.exchanges.append(exchange)

    def exchange_closed(self, exchange: HttpExchange) -> None:
        """Bill an exchange that is over on its own, where no open call will."""
        owner = exchange.owner
        if not isinstance(owner, ExchangeOwner) or owner.billed:
            return
        node = owner.node
        call = node.call if node is not None else None
        if node is None and self.holds:
            self._held.append(exchange)
        elif node is None or call is None or exchange not in call.exchanges:
            self._bill_alone(exchange, owner)
        elif call.pending:
            if not call.in_flight():
                self._stop_waiting(node)
        elif node.ended_ns is not None and is_known(exchange):
            self._bill_alone(exchange, owner)

    # --- events -------------------------------------------------------------------------------

    def complete(self, node: OpenSpan) -> bool:
        """Decide the usage of a call that has ended.

        Returns:
            False while only an unfinished exchange can tell. The node is delivered when that ends.
        """
        call = node.call
        if call is None:
            return True
        if self.holds:
            self._take_held(node, call)
        exchanges = call.exchanges
        if len(exchanges) == 1 and exchanges[0].done and call.usage:
            # As most calls end. What follows does the same.
            call.exchange = exchanges[0]
            self._take(exchanges[0].owner)
            self._close_counter(node, call)
            return True
        if call.in_flight() and not call.usage_seen():
            call.pending = True
            self._pending[node.event_id] = node
            return False
        self._complete(node, call)
        return True

    def complete_pending(self) -> None:
        """Stop waiting for exchanges that never ended."""
        for node in list(self._pending.values()):
            self._stop_waiting(node)

    def bill_held(self, before_ns: int) -> None:
        """Bill the held exchanges that ended before ``before_ns`` and belong to no call."""
        due = [held for held in self._held if (held.ended_ns or 0) < before_ns]
        for exchange in due:
            self._held.remove(exchange)
            if isinstance(exchange.owner, ExchangeOwner):
                self._bill_alone(exchange, exchange.owner)

    def _take_held(self, node: OpenSpan, call: ModelCall) -> None:
        """Give ``call`` its held exchange: by response id, else by time and model."""
        started_ns = node.started_ns - _SLACK_NS
        ended_ns = (node.ended_ns or time_ns()) + _SLACK_NS
        by_id: list[HttpExchange] = []
        by_model: list[HttpExchange] = []
        for held in self._held:
            if call.response_id is not None and held.response_id == call.response_id:
                by_id.append(held)
            during = started_ns <= held.started_ns and (held.ended_ns or 0) <= ended_ns
            if not during or held.operation not in _INFERENCE:
                continue
            if (call.model or "").endswith(held.request_model or ""):
                by_model.append(held)
        for exchange in (by_id or by_model)[:1]:
            self._held.remove(exchange)
            call.exchanges.append(exchange)

    def after_fork(self) -> None:
        """Forget the exchanges for which the parent of a forked child waits.

        The locks are new, since another thread may have held the old ones at the fork.
        """
        self._lock = threading.Lock()
        self.counters.after_fork()
        self._pending = {}
        self._held = []

    def find_ended(
        self, call_id: str | None, usage: Mapping[str, object] | None
    ) -> OpenSpan | None:
        """Return the ended call that a further end event repeats.

        A second end of one call (Bedrock's tool loop, doubled failures) is a bill of its own only
        where it has a usage that no exchange and no earlier event had. Then this is None.
        """
        node = self._active.find_call(call_id)
        if node is None or node.call is None:
            return None
        call = node.call
        if not usage or call.exchanges or call.usage == usage or call.reconciled is not None:
            return node
        return None

    def _stop_waiting(self, node: OpenSpan) -> None:
        """Complete and deliver a node that waits for its exchange."""
        if self._pending.pop(node.event_id, None) is None or node.call is None:
            return
        node.call.pending = False
        self._complete(node, node.call)
        self._recorder.deliver(node)

    def _complete(self, node: OpenSpan, call: ModelCall) -> None:
        main = main_exchange(call)
        call.exchange = main
        for exchange in call.exchanges:
            owner = exchange.owner
            if exchange is main or (exchange.done and not is_known(exchange)):
                self._take(owner)
            elif is_known(exchange) and isinstance(owner, ExchangeOwner):
                self._bill_alone(exchange, owner)
        if main is not None and node.error_type is None and not call.usage and not is_known(main):
            node.error_type = main.error_type
        self._close_counter(node, call)

    def _close_counter(self, node: OpenSpan, call: ModelCall) -> None:
        """Note a call's end in its LLM object's counter, and bill what only that knows."""
        if call.counter_window is None:
            return
        residual = self.counters.ended(node, call)
        if residual is not None:
            self._bill_residual(call, *residual)

    def _bill_residual(self, call: ModelCall, missing: OpenSpan, usage: TokenUsage) -> None:
        """Record what a counter gained while calls overlapped, as a call of its own."""
        extra = ModelCall(origin="residual")
        extra.declared = call.declared
        extra.model = call.model
        extra.endpoint = call.endpoint
        extra.reconciled = usage
        self._record(
            extra,
            missing,
            missing.started_ns,
            missing.ended_ns or time_ns(),
        )

    def _bill_alone(self, exchange: HttpExchange, owner: ExchangeOwner) -> None:
        """Record an exchange as a call of its own."""
        node = owner.node
        if not self._take(owner):
            return
        call = ModelCall(exchange.operation, origin="wire")
        call.exchange = exchange
        call.model = exchange.request_model
        call.declared = exchange.provider
        if not call.declared and node is not None and node.call is not None:
            call.declared = node.call.declared
        ended_ns = exchange.ended_ns or time_ns()
        # A stream may be read to its end outside the block in which it was requested.
        with attribution.as_account(owner.account):
            self._record(
                call,
                node,
                exchange.started_ns,
                ended_ns,
                exchange.error_type,
            )

    def _record(
        self,
        call: ModelCall,
        node: OpenSpan | None,
        started_ns: int,
        ended_ns: int,
        error_type: str | None = None,
    ) -> None:
        """Record a call beside ``node`` if that is a call, else inside it."""
        parent = node
        if node is not None and node.call is not None:
            parent = node.parent
        name = call.operation
        if call.model:
            name = f"{call.operation} {call.model}"
        self._recorder.record(
            None,
            _KINDS.get(call.operation, semconv.KIND_LLM),
            name,
            at_ns=ended_ns,
            started_ns=started_ns,
            call=call,
            parent=parent,
            error_type=error_type,
        )

    def _take(self, owner: object) -> bool:
        """Claim an exchange for one span. Return True for the first caller only."""
        if not isinstance(owner, ExchangeOwner):
            return False
        with self._lock:
            if owner.billed:
                return False
            owner.billed = True
            # Else the two would hold each other until the garbage collector comes.
            owner.node = None
            return True


def note_cache_hit() -> None:
    """Note that the call open in this context was answered from a cache.

    Where a request is sent all the same, its exchange is what counts.
    """
    node = node_here()
    if node is not None and node.call is not None:
        node.call.not_sent = True


def _called_by_crewai() -> bool:
    """Return True where CrewAI's own code is on the stack.

    Knowledge and memory embed outside any run, too.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if str(module).startswith("crewai."):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
