"""One model call in the making: its CrewAI events and its HTTP exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.http.http_call import HttpExchange
    from crewmeter.spans.span import OpenSpan
    from crewmeter.usage.token_usage import TokenUsage

__all__ = ["KNOWN_STATUSES", "ExchangeOwner", "ModelCall", "is_known", "main_exchange"]

KNOWN_STATUSES = frozenset({"reported", "estimated", "reconciled"})
"""Statuses of a usage that says what was used."""


class ExchangeOwner:
    """The node and account of an exchange, and whether a span has its usage."""

    __slots__ = ("account", "billed", "node", "reservation")

    def __init__(self, node: OpenSpan | None, account: Mapping[str, str] | None = None) -> None:
        self.node = node
        self.account = account
        self.billed = False
        """True once a span has taken the exchange's usage."""
        self.reservation: object | None = None
        """What a budget guard reserved for an embedding."""


class ModelCall:
    """The billed side of a node.

    Everything that an event or exchange may leave out is None.
    """

    __slots__ = (
        "counter_window",
        "declared",
        "endpoint",
        "exchange",
        "exchanges",
        "finish_reason",
        "first_chunk_ns",
        "model",
        "not_sent",
        "operation",
        "origin",
        "pending",
        "reconciled",
        "reservation",
        "response_id",
        "runs_tools",
        "usage",
    )

    def __init__(self, operation: str = semconv.CHAT, origin: str = "event") -> None:
        self.operation = operation
        self.origin = origin
        self.declared: str | None = None
        self.model: str | None = None
        self.endpoint: str | None = None
        self.runs_tools = False
        """CrewAI runs tools inside this call, so spans below it are its children."""
        self.exchanges: list[HttpExchange] = []
        self.exchange: HttpExchange | None = None
        """The one whose usage the span takes."""
        self.usage: Mapping[str, object] | None = None
        """As the event reported it, in the provider's or CrewAI's own shape."""
        self.reconciled: TokenUsage | None = None
        """From the LLM object's counter, where neither event nor exchange said anything."""
        self.reservation: object | None = None
        """What a budget guard reserved for it."""
        self.finish_reason: str | None = None
        self.response_id: str | None = None
        self.first_chunk_ns: int | None = None
        self.counter_window: object | None = None
        """The counter of the LLM object while the call is open, see `spans.llm_counters`."""
        self.not_sent = False
        """Known to have been answered without a request: from a cache, or by a mock."""
        self.pending = False
        """Ended for CrewAI, but its exchange is still open and nothing else knows the usage."""

    def in_flight(self) -> bool:
        """Return True while an exchange of this call has not finished."""
        return any(not exchange.done for exchange in self.exchanges)

    def usage_seen(self) -> bool:
        """Return True when an event or an exchange reported something usable."""
        return bool(self.usage) or any(is_known(exchange) for exchange in self.exchanges)


def is_known(exchange: HttpExchange) -> bool:
    """Return True where the exchange says what it used."""
    return exchange.usage.status in KNOWN_STATUSES


def main_exchange(call: ModelCall) -> HttpExchange | None:
    """Return the exchange whose usage a call's span takes.

    It is the one the event names by response id, else the last that was billed.
    """
    if not call.exchanges:
        return None
    if len(call.exchanges) == 1:
        # Not queried for its usage, which would parse the response body here and now.
        return call.exchanges[0]
    if call.response_id is not None:
        for exchange in call.exchanges:
            if exchange.response_id == call.response_id:
                return exchange
    for exchange in reversed(call.exchanges):
        if is_known(exchange):
            return exchange
    return call.exchanges[-1]
