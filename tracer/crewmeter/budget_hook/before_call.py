"""Budgets in the app: reserve before a model call, settle after it, refuse where a guard says so. Knows no CrewAI."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from crewmeter import attribution, semconv
from crewmeter.budget_hook.protocol import BudgetExceeded
from crewmeter.crewai.display_names import declared_provider, endpoint_of, short
from crewmeter.export.readable_span import attributes_of
from crewmeter.log_rate_limit import RateLimit
from crewmeter.spans.call_attributes import host_of, names_of
from crewmeter.spans.context_propagation import node_here
from crewmeter.spans.model_call import ExchangeOwner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.http.http_call import HttpExchange
    from crewmeter.spans.span import OpenSpan

__all__ = ["BeforeCallHook", "Guard"]

logger = logging.getLogger("crewmeter")

_SETTLED = object()
"""In place of a call's reservation once it is settled."""


class Guard(Protocol):
    """What a budget guard offers; see `crewmeter.budget_hook.protocol`. ``attributes`` are a span's, under semconv's names.

    A refusal is something with a ``budget`` and a ``reason``, and perhaps ``spent_usd``, ``limit_usd`` and ``resets_at``.
    """

    @property
    def active(self) -> bool:
        """False while there is no budget to keep to; then nothing need be asked."""

    def start(self) -> None:
        """CrewAI is there: load what the first call will need."""

    def reserve(
        self,
        attributes: Mapping[str, object],
        *,
        input_chars: int,
        max_output_tokens: int | None = None,
    ) -> Any:
        """A reservation, or a refusal. A reservation that is ``urgent`` is settled as its call ends, others a moment later."""

    def exhausted(self, attributes: Mapping[str, object]) -> Any:
        """A refusal where nothing at all may be spent here any more, else None."""

    def tool(self, attributes: Mapping[str, object], name: str, arguments: object) -> Any:
        """A refusal where this use of a tool is one too many, else None."""

    def settle(
        self,
        reservation: Any,
        attributes: Mapping[str, object] | None,
        *,
        duration_ns: int | None = None,
    ) -> None:
        """Replace a reservation by what the call cost; None for a call that was never made."""

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """Book a billed call nobody reserved for."""

    def after_fork(self) -> None:
        """In a forked child: locks, threads and connections are the parent's."""

    def close(self) -> None:
        """Give back what is reserved and stop."""


class BeforeCallHook:
    """Asks the guard before each call and tells it after. What goes wrong in it lets the call through."""

    def __init__(self, guard: Guard, base_scope: Mapping[str, object]) -> None:
        self._guard = guard
        self._base_scope = base_scope
        self._limit = RateLimit()
        self._waiting: ContextVar[object | None] = ContextVar("crewmeter_reservation", default=None)
        """Reserved before the call's started event, by the executor; the next call in this context takes it."""
        self.error: type[BudgetExceeded] = BudgetExceeded
        """What to raise; the tap puts a class here that is CrewAI's own stop as well."""

    @property
    def wanted(self) -> bool:
        """Whether CrewAI should ask before its calls: there is a budget, or it is not known yet that there is none."""
        return getattr(self._guard, "undecided", False) or self._guard.active

    def start(self) -> None:
        """CrewAI is there."""
        self._guard.start()

    def refusal(self, llm: Any, messages: object) -> BudgetExceeded | None:
        """Why the call about to be made may not be, or None. Called from CrewAI's hook, in the caller's context."""
        if not self._guard.active:
            return None
        left_over = self._waiting.get()
        if left_over is not None:  # that call was never made
            self._waiting.set(None)
            self._guard.settle(left_over, None)
        node = node_here()
        limit = getattr(llm, "max_tokens", None)
        outcome = self._guard.reserve(
            self._attributes(llm, node),
            input_chars=_characters(messages),
            max_output_tokens=int(limit) if isinstance(limit, int | float) else None,
        )
        if (refused := self._refused(outcome)) is not None:
            return refused
        if node is not None and node.call is not None:
            node.call.reservation = outcome
        else:
            self._waiting.set(outcome)
        return None

    def memory_refusal(self) -> BudgetExceeded | None:
        """Why memory or knowledge may not be asked here (it would embed, and be billed), or None."""
        if not self._guard.active:
            return None
        return self._refused(self._guard.exhausted(self._place(node_here())))

    def tool_refusal(self, name: str, arguments: object) -> BudgetExceeded | None:
        """Why a tool may not be used with these arguments once more, or None."""
        if not self._guard.active:
            return None
        return self._refused(self._guard.tool(self._place(node_here()), name, arguments))

    def exchange_opened(self, exchange: HttpExchange) -> None:
        """An embedding is about to be sent, in the caller's context. Raises `BudgetExceeded` where it may not be."""
        owner = exchange.owner
        if (
            exchange.operation != semconv.EMBEDDINGS
            or not isinstance(owner, ExchangeOwner)
            or not self._guard.active
        ):
            return
        named = {
            semconv.OPERATION: exchange.operation,
            semconv.REQUEST_MODEL: exchange.request_model,
            semconv.PROVIDER: exchange.provider,
            semconv.SERVER_ADDRESS: exchange.host,
        }
        attributes = {
            **self._place(owner.node),
            **{name: value for name, value in named.items() if value is not None},
        }
        outcome = self._guard.reserve(attributes, input_chars=0)
        if (refused := self._refused(outcome)) is not None:
            raise refused
        owner.reservation = outcome

    def exchange_closed(self, exchange: HttpExchange) -> None:
        """An exchange is over: what was reserved for it and not billed goes back."""
        owner = exchange.owner
        if isinstance(owner, ExchangeOwner) and owner.reservation is not None:
            reservation, owner.reservation = owner.reservation, None
            self._guard.settle(reservation, None)

    def call_started(self, node: OpenSpan) -> None:
        """Give a call that has just started what was reserved for it."""
        reservation = self._waiting.get()
        if reservation is not None and node.call is not None:
            self._waiting.set(None)
            node.call.reservation = reservation

    def is_urgent(self, node: OpenSpan) -> bool:
        """Whether the next call must know what this finished one cost: a limit is near. Else the export thread settles it."""
        call = node.call
        if call is None:
            return False
        owner = call.exchange.owner if call.exchange is not None else None
        embedded = isinstance(owner, ExchangeOwner) and owner.reservation is not None
        urgent = embedded or (
            call.reservation is not None and getattr(call.reservation, "urgent", False)
        )
        return bool(urgent and self._guard.active)

    def seen(self, node: OpenSpan) -> None:
        """A finished call: settle its reservation, or book it as it is; once, however often it is shown."""
        call = node.call
        if call is None or call.reservation is _SETTLED or not self._guard.active:
            return
        attributes = attributes_of(node)
        duration_ns = (node.ended_ns or node.started_ns) - node.started_ns
        reservation, call.reservation = call.reservation, _SETTLED
        owner = call.exchange.owner if call.exchange is not None else None
        if reservation is None and isinstance(owner, ExchangeOwner):
            reservation, owner.reservation = owner.reservation, None
        if reservation is not None:
            self._guard.settle(reservation, attributes, duration_ns=duration_ns)
        else:
            self._guard.spend(attributes, duration_ns=duration_ns)

    def after_fork(self) -> None:
        """In a forked child."""
        self._guard.after_fork()

    def close(self) -> None:
        """Give back what is reserved."""
        self._guard.close()

    def _refused(self, outcome: Any) -> BudgetExceeded | None:
        """The error of a refusal; None for anything else."""
        reason = getattr(outcome, "reason", None)
        if reason is None:
            return None
        budget = str(getattr(outcome, "budget", ""))
        error = self.error(
            f"crewmeter: budget {budget}: {reason}",
            budget=budget,
            spent_usd=getattr(outcome, "spent_usd", None),
            limit_usd=getattr(outcome, "limit_usd", None),
            resets_at=getattr(outcome, "resets_at", None),
        )
        if self._limit.allows(monotonic()):
            logger.warning("%s; the call was not made", error)
        return error

    def _place(self, node: OpenSpan | None) -> dict[str, object]:
        if node is None:
            return {**self._base_scope, **(attribution.current() or {})}
        here = attribution.current()
        return (
            {**node.scope, **here}
            if here is not None and here is not node.attribution
            else dict(node.scope)
        )

    def _attributes(self, llm: Any, node: OpenSpan | None) -> dict[str, object]:
        endpoint = endpoint_of(llm)
        host = host_of(endpoint)[0] if endpoint else None
        provider, model = names_of(declared_provider(llm), short(getattr(llm, "model", None)), host)
        named = {
            semconv.OPERATION: semconv.CHAT,
            semconv.REQUEST_MODEL: model,
            semconv.PROVIDER: provider,
            semconv.SERVER_ADDRESS: host,
        }
        return {
            **self._place(node),
            **{name: value for name, value in named.items() if value is not None},
        }


def _characters(messages: object) -> int:
    """Length of the prompt, roughly, without building it."""
    if not isinstance(messages, list):
        return len(messages) if isinstance(messages, str) else 0
    return sum(
        len(str(message.get("content") or "")) for message in messages if isinstance(message, dict)
    )
