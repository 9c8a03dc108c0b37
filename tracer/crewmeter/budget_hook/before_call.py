"""Budgets in the app: reserve before a model call, settle after it, refuse.

It does not depend on CrewAI: `crewmeter.crewai.budget_hooks` calls it.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any

from crewmeter import attribution, semconv
from crewmeter.budget_error import BudgetExceeded
from crewmeter.export.readable_span import attributes_of
from crewmeter.log_rate_limit import RateLimit
from crewmeter.spans.call_attributes import host_of, names_of
from crewmeter.spans.context_propagation import node_here
from crewmeter.spans.labels import declared_provider, endpoint_of, settings_of, short
from crewmeter.spans.model_call import ExchangeOwner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.budget_hook.protocol import BudgetLookup
    from crewmeter.http.http_call import HttpExchange
    from crewmeter.spans.span import OpenSpan

__all__ = ["BeforeCallHook"]

logger = logging.getLogger("crewmeter")

_SETTLED = object()
"""Replaces a call's reservation once it is settled."""


class BeforeCallHook:
    """Reserves before each call and settles after it.

    A fault in it lets the call through.
    """

    def __init__(self, budgets: BudgetLookup, base_scope: Mapping[str, object]) -> None:
        self._budgets = budgets
        self._base_scope = base_scope
        self._limit = RateLimit()
        self._waiting: ContextVar[object | None] = ContextVar("crewmeter_reservation", default=None)
        """Reserved by the executor before the call's started event.

        The next call in this context takes it.
        """
        self.error: type[BudgetExceeded] = BudgetExceeded
        """What to raise; CrewAI's event handler sets a class that is CrewAI's own stop as well."""

    @property
    def wanted(self) -> bool:
        """Whether CrewAI's before-call hooks are needed.

        There is a budget, or there may be one.
        """
        return self._budgets.is_undecided or self._budgets.guard is not None

    def start(self) -> None:
        """Look for budgets: CrewAI is there."""
        self._budgets.start()

    def refusal(self, llm: Any, messages: object) -> BudgetExceeded | None:
        """Return why the call about to be made is refused, or None and reserve for it.

        Called from CrewAI's hook, in the caller's context.
        """
        guard = self._budgets.guard
        if guard is None:
            return None
        unused = self._waiting.get()
        if unused is not None:  # that call was never made
            self._waiting.set(None)
            guard.settle(unused, None)
        node = node_here()
        limit = getattr(llm, "max_tokens", None)
        outcome = guard.reserve(
            self._call_attributes(llm, node),
            input_chars=_characters(messages),
            max_output_tokens=int(limit) if isinstance(limit, int | float) else None,
        )
        refused = self._error_of(outcome)
        if refused is not None:
            return refused
        if node is not None and node.call is not None:
            node.call.reservation = outcome
        else:
            self._waiting.set(outcome)
        return None

    def memory_refusal(self) -> BudgetExceeded | None:
        """Return why memory or knowledge may not be queried here, or None.

        It would embed, and be billed.
        """
        guard = self._budgets.guard
        if guard is None:
            return None
        return self._error_of(guard.exhausted(self._scope(node_here())))

    def tool_refusal(self, name: str, arguments: object) -> BudgetExceeded | None:
        """Return why a tool may not be used with these arguments once more, or None."""
        guard = self._budgets.guard
        if guard is None:
            return None
        return self._error_of(
            guard.tool(
                self._scope(node_here()),
                name,
                arguments,
            )
        )

    def exchange_opened(self, exchange: HttpExchange) -> None:
        """Reserve for an embedding about to be sent, in the caller's context.

        Raises:
            BudgetExceeded: Where it may not be sent.
        """
        owner = exchange.owner
        is_ours = exchange.operation == semconv.EMBEDDINGS and isinstance(owner, ExchangeOwner)
        guard = self._budgets.guard if is_ours else None
        if guard is None or not isinstance(owner, ExchangeOwner):
            return
        attributes = self._scope(owner.node)
        attributes.update(
            _present(
                {
                    semconv.OPERATION: exchange.operation,
                    semconv.REQUEST_MODEL: exchange.request_model,
                    semconv.PROVIDER: exchange.provider,
                    semconv.SERVER_ADDRESS: exchange.host,
                }
            )
        )
        outcome = guard.reserve(attributes, input_chars=0)
        refused = self._error_of(outcome)
        if refused is not None:
            raise refused
        owner.reservation = outcome

    def exchange_closed(self, exchange: HttpExchange) -> None:
        """Give back what was reserved for an exchange and not billed."""
        owner = exchange.owner
        if isinstance(owner, ExchangeOwner) and owner.reservation is not None:
            reservation = owner.reservation
            owner.reservation = None
            if self._budgets.found is not None:
                self._budgets.found.settle(reservation, None)

    def call_started(self, node: OpenSpan) -> None:
        """Give a call that has just started what was reserved for it."""
        reservation = self._waiting.get()
        if reservation is not None and node.call is not None:
            self._waiting.set(None)
            node.call.reservation = reservation

    def is_urgent(self, node: OpenSpan) -> bool:
        """Tell whether the next call must know what this finished one cost.

        A limit is near. Otherwise the export thread settles it.
        """
        call = node.call
        if call is None:
            return False
        owner = call.exchange.owner if call.exchange is not None else None
        if isinstance(owner, ExchangeOwner) and owner.reservation is not None:
            return self._budgets.guard is not None
        is_near = call.reservation is not None and getattr(call.reservation, "urgent", False)
        return bool(is_near) and self._budgets.guard is not None

    def seen(self, node: OpenSpan) -> None:
        """Settle a finished call's reservation, or book the call.

        Once, however often it comes.
        """
        call = node.call
        if call is None or call.reservation is _SETTLED:
            return
        guard = self._budgets.guard
        if guard is None:
            return
        attributes = attributes_of(node)
        duration_ns = (node.ended_ns or node.started_ns) - node.started_ns
        reservation = call.reservation
        call.reservation = _SETTLED
        owner = call.exchange.owner if call.exchange is not None else None
        if reservation is None and isinstance(owner, ExchangeOwner):
            reservation = owner.reservation
            owner.reservation = None
        if reservation is not None:
            guard.settle(reservation, attributes, duration_ns=duration_ns)
        else:
            guard.spend(attributes, duration_ns=duration_ns)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self._budgets.after_fork()

    def close(self) -> None:
        """Give back what is reserved."""
        if self._budgets.found is not None:
            self._budgets.found.close()

    def _error_of(self, outcome: Any) -> BudgetExceeded | None:
        """Return the error of a refusal, None for a reservation."""
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
            logger.warning("budget %s: %s; the call was not made", budget, reason)
        return error

    def _scope(self, node: OpenSpan | None) -> dict[str, object]:
        """Return the attributes that say where in the crew, and on whose account, this is."""
        here = attribution.current()
        if node is None:
            return {**self._base_scope, **(here or {})}
        scope: dict[str, object] = dict(node.scope)
        if here is not None and here is not node.attribution:
            scope.update(here)
        return scope

    def _call_attributes(self, llm: Any, node: OpenSpan | None) -> dict[str, object]:
        setting = settings_of(llm)
        endpoint = endpoint_of(setting)
        host = host_of(endpoint)[0] if endpoint else None
        named = short(setting("model"))
        provider, model = names_of(
            declared_provider(setting),
            named,
            host,
        )
        attributes = self._scope(node)
        attributes.update(
            _present(
                {
                    semconv.OPERATION: semconv.CHAT,
                    semconv.REQUEST_MODEL: model,
                    semconv.PROVIDER: provider,
                    semconv.SERVER_ADDRESS: host,
                }
            )
        )
        return attributes


def _present(values: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _characters(messages: object) -> int:
    """Return the length of the prompt, roughly, without building it."""
    if isinstance(messages, str):
        return len(messages)
    if not isinstance(messages, list):
        return 0
    texts = (message.get("content") for message in messages if isinstance(message, dict))
    return sum(len(str(text or "")) for text in texts)
