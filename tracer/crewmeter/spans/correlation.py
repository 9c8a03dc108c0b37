"""Events say where a call belongs, the wire says what was billed: every exchange ends up on exactly one billed span."""

from __future__ import annotations

import sys
import threading
from time import time_ns
from typing import TYPE_CHECKING

from crewmeter import attribution, semconv
from crewmeter.spans.context_propagation import node_here
from crewmeter.spans.model_call import ExchangeOwner, ModelCall, is_known, main_exchange
from crewmeter.usage.llm_counters import LlmCounters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.spans.model_call import HttpExchange
    from crewmeter.spans.recorder import Recorder
    from crewmeter.spans.span import OpenSpan

__all__ = ["Correlator"]

_INFERENCE = frozenset({semconv.CHAT, semconv.TEXT_COMPLETION, semconv.GENERATE_CONTENT})
_SLACK_NS = 5_000_000
"""How far (ns) an event's clock may be off its exchange's."""
_KINDS = {semconv.EMBEDDINGS: semconv.KIND_EMBEDDING, semconv.RERANK: semconv.KIND_EMBEDDING}


class Correlator:
    """Matches HTTP exchanges with model calls, and settles each once. Its lock guards flags only, never other code."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._pending: dict[str, OpenSpan] = {}
        self._held: list[HttpExchange] = []
        self.holds = False
        """Events come late and elsewhere (no seam): finished exchanges wait a moment for the call they belong to."""
        self.counters = LlmCounters()

    # --- the wire's side -------------------------------------------------------------------------------------------

    def opened(self, exchange: HttpExchange) -> None:
        """A request is being sent, in the caller's context: note whose it is. Outside a run and CrewAI it is nobody's."""
        node = node_here()
        if node is None and attribution.current() is None and not _called_by_crewai():
            return
        exchange.owner = ExchangeOwner(node)
        if (
            node is not None
            and node.kind == semconv.KIND_LLM
            and node.call is not None
            and exchange.operation in _INFERENCE
        ):
            node.call.exchanges.append(exchange)

    def closed(self, exchange: HttpExchange) -> None:
        """The response is over, whole or not: bill it on its own where no open call will."""
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
                self._match_now(node)
        elif node.ended_ns is not None and is_known(exchange):
            self._bill_alone(exchange, owner)

    # --- the events' side ------------------------------------------------------------------------------------------

    def settle(self, node: OpenSpan) -> bool:
        """Decide a closed call's usage. False while only an unfinished exchange can tell; it is delivered when that ends."""
        call = node.call
        if call is None:
            return True
        if self.holds:
            self._claim_held(node, call)
        if not call.usage_seen() and call.in_flight():
            call.pending = True
            self._pending[node.event_id] = node
            return False
        self._complete(node, call)
        return True

    def match_pending(self) -> None:
        """Stop waiting for exchanges that never ended."""
        for node in list(self._pending.values()):
            self._match_now(node)

    def bill_held(self, before_ns: int) -> None:
        """Bill on their own the held exchanges that ended before ``before_ns`` and that no call has claimed."""
        for exchange in [held for held in self._held if (held.ended_ns or 0) < before_ns]:
            self._held.remove(exchange)
            if isinstance(exchange.owner, ExchangeOwner):
                self._bill_alone(exchange, exchange.owner)

    def _claim_held(self, node: OpenSpan, call: ModelCall) -> None:
        """Give ``call`` the held exchanges that are its own: by response id, else by having happened while it was open."""
        ended_ns = (node.ended_ns or time_ns()) + _SLACK_NS
        by_id = [
            held
            for held in self._held
            if call.response_id is not None and held.response_id == call.response_id
        ]
        during = [
            held
            for held in self._held
            if node.started_ns - _SLACK_NS <= held.started_ns and (held.ended_ns or 0) <= ended_ns
        ]
        same_model = [
            held
            for held in during
            if held.operation in _INFERENCE
            and (call.model or "").endswith(held.request_model or "")
        ]
        for exchange in (by_id or same_model)[:1]:
            self._held.remove(exchange)
            call.exchanges.append(exchange)

    def forget_pending(self) -> None:
        """In a forked child: the parent waits for its own exchanges."""
        self._pending = {}
        self._held = []

    def late(self, call_id: str | None, usage: Mapping[str, object] | None) -> OpenSpan | None:
        """The ended call a further end event belongs to, or None if that end must be billed on its own.

        A second end of one call (Bedrock's tool loop, doubled failures) is a bill of its own only where it has a usage that no
        exchange and no earlier event had.
        """
        node = self._recorder.registry.find_call(call_id)
        if node is None or node.call is None:
            return None
        if (
            not usage
            or node.call.exchanges
            or node.call.usage == usage
            or node.call.reconciled is not None
        ):
            return node
        return None

    def _match_now(self, node: OpenSpan) -> None:
        if self._pending.pop(node.event_id, None) is None or node.call is None:
            return
        node.call.pending = False
        self._complete(node, node.call)
        self._recorder.deliver(node)

    def _complete(self, node: OpenSpan, call: ModelCall) -> None:
        call.exchange = main = main_exchange(call)
        for exchange in call.exchanges:
            owner = exchange.owner
            if exchange is main or (exchange.done and not is_known(exchange)):
                self._take(owner)
            elif is_known(exchange) and isinstance(owner, ExchangeOwner):
                self._bill_alone(exchange, owner)
        if main is not None and node.error_type is None and not call.usage and not is_known(main):
            node.error_type = main.error_type
        residual = self.counters.ended(node, call)
        if residual is not None:
            missing, usage = residual
            extra = ModelCall(origin="residual")
            extra.declared, extra.model, extra.endpoint, extra.reconciled = (
                call.declared,
                call.model,
                call.endpoint,
                usage,
            )
            self._point(extra, missing, missing.started_ns, missing.ended_ns or time_ns())

    def _bill_alone(self, exchange: HttpExchange, owner: ExchangeOwner) -> None:
        if not self._take(owner):
            return
        node = owner.node
        call = ModelCall(exchange.operation, origin="wire")
        call.exchange = exchange
        call.model = exchange.request_model
        call.declared = exchange.provider or (
            node.call.declared if node is not None and node.call is not None else None
        )
        self._point(
            call, node, exchange.started_ns, exchange.ended_ns or time_ns(), exchange.error_type
        )

    def _point(
        self,
        call: ModelCall,
        node: OpenSpan | None,
        started_ns: int,
        ended_ns: int,
        error_type: str | None = None,
    ) -> None:
        parent = node.parent if node is not None and node.call is not None else node
        self._recorder.point(
            None,
            _KINDS.get(call.operation, semconv.KIND_LLM),
            f"{call.operation} {call.model}" if call.model else call.operation,
            at_ns=ended_ns,
            started_ns=started_ns,
            call=call,
            parent=parent,
            error_type=error_type,
        )

    def _take(self, owner: object) -> bool:
        """ExchangeOwner an exchange for one span: True for the first caller only."""
        if not isinstance(owner, ExchangeOwner):
            return False
        with self._lock:
            if owner.billed:
                return False
            owner.billed = True
            return True


def _called_by_crewai() -> bool:
    """True where CrewAI's own code is on the stack: knowledge and memory embed outside any run, too."""
    frame = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("crewai."):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
