"""One model call in the making: what CrewAI's events say of it, and the HTTP exchanges that were really billed for it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from crewmeter import semconv
from crewmeter.providers.hosts import resolve_provider
from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.attributes import usage_attributes
from crewmeter.usage.token_usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

    from crewmeter.spans.span import OpenSpan

__all__ = [
    "ExchangeOwner",
    "HttpExchange",
    "ModelCall",
    "call_attributes",
    "host_of",
    "is_known",
    "main_exchange",
    "names_of",
]

_KNOWN = frozenset({"reported", "estimated", "reconciled"})


class HttpExchange(Protocol):
    """What the tracer needs of the wire's record of one HTTP exchange; see `crewmeter.http.observation`."""

    operation: str
    provider: str | None
    host: str | None
    port: int | None
    response_model: str | None
    response_id: str | None
    usage: TokenUsage
    service_tier: str | None
    finish_reason: str | None
    reported_cost_usd: str | None
    status_code: int | None
    error_type: str | None
    started_ns: int
    first_chunk_ns: int | None
    ended_ns: int | None
    streamed: bool
    done: bool
    owner: object | None

    @property
    def request_model(self) -> str | None:
        """The model asked for."""


class ExchangeOwner:
    """Whose an exchange is: a model call's, or of a place. ``settled`` once a span has taken its usage."""

    __slots__ = ("billed", "node", "reservation")

    def __init__(self, node: OpenSpan | None) -> None:
        self.node = node
        self.billed = False
        self.reservation: object | None = None
        """What a budget guard set aside for an embedding."""


class ModelCall:
    """The billed side of a node. Everything an event or exchange may leave unsaid is None."""

    __slots__ = (
        "counter_window",
        "declared",
        "endpoint",
        "exchange",
        "exchanges",
        "finish_reason",
        "first_chunk_ns",
        "model",
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
        """CrewAI runs tools inside this call, so spans below it are its children and no sign of a forgotten end."""
        self.exchanges: list[HttpExchange] = []
        self.exchange: HttpExchange | None = None
        """The one whose usage the span takes."""
        self.usage: Mapping[str, object] | None = None
        """As the event reported it, in the provider's or CrewAI's own shape."""
        self.reconciled: TokenUsage | None = None
        """From the LLM object's counter, where neither event nor exchange said anything."""
        self.reservation: object | None = None
        """What a budget guard set aside for it."""
        self.finish_reason: str | None = None
        self.response_id: str | None = None
        self.first_chunk_ns: int | None = None
        self.counter_window: object | None = None
        """The counter that is watched while the call is open; see `crewmeter.usage.llm_counters`."""
        self.pending = False
        """Ended for CrewAI, but its exchange is still open and nothing else knows the usage."""

    def in_flight(self) -> bool:
        """True while an exchange of this call has not finished."""
        return any(not exchange.done for exchange in self.exchanges)

    def usage_seen(self) -> bool:
        """True when event or wire reported something usable."""
        return bool(self.usage) or any(is_known(exchange) for exchange in self.exchanges)


def is_known(exchange: HttpExchange) -> bool:
    """True where the exchange says what it used."""
    return exchange.usage.status in _KNOWN


def main_exchange(call: ModelCall) -> HttpExchange | None:
    """The exchange whose usage a call's span takes: the one the event names by response id, else the last that was billed."""
    if (
        len(call.exchanges) <= 1
    ):  # asking a single one what it says would read its answer here and now
        return call.exchanges[0] if call.exchanges else None
    if call.response_id is not None:
        for exchange in call.exchanges:
            if exchange.response_id == call.response_id:
                return exchange
    for exchange in reversed(call.exchanges):
        if is_known(exchange):
            return exchange
    return call.exchanges[-1]


@lru_cache(maxsize=256)
def host_of(endpoint: str) -> tuple[str | None, int | None]:
    """(host, port) of a URL or ``host:port``; None for what it does not say."""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        return parts.hostname, parts.port
    except ValueError:
        return None, None


@lru_cache(maxsize=1024)
def names_of(
    declared: str | None, model: str | None, host: str | None
) -> tuple[str | None, str | None]:
    """(provider, model) where the client may have put the provider's name before the model's, as LiteLLM does."""
    if declared is None and model and "/" in model:
        declared, model = model.split("/", 1)
    elif declared and model and model.startswith(f"{declared}/"):
        model = model[len(declared) + 1 :]
    provider, _ = resolve_provider(declared, host)
    return provider, model


def call_attributes(call: ModelCall, node: OpenSpan) -> dict[str, AttributeValue]:
    """Everything the ledger needs to price the call, under semconv's names; nothing for what is unknown."""
    exchange = call.exchange
    host, port = (
        (exchange.host, exchange.port)
        if exchange
        else host_of(call.endpoint)
        if call.endpoint
        else (None, None)
    )
    declared = call.declared or (exchange.provider if exchange else None)
    provider, model = names_of(declared, call.model, host)
    usage, source = _usage(call, provider)
    if (
        usage.status == "missing"
        and node.error_type is not None
        and _was_refused(exchange)
        and "rejected" not in usage.flags
    ):
        usage = replace(usage, flags=(*usage.flags, "rejected"))
    values: dict[str, AttributeValue | None] = {
        semconv.OPERATION: call.operation,
        semconv.PROVIDER: provider,
        semconv.DECLARED_PROVIDER: declared,
        semconv.SERVER_ADDRESS: host,
        semconv.SERVER_PORT: port,
        semconv.REQUEST_MODEL: (exchange.request_model if exchange else None) or model,
        semconv.RESPONSE_MODEL: exchange.response_model if exchange else None,
        semconv.RESPONSE_ID: (exchange.response_id if exchange else None) or call.response_id,
        semconv.SERVICE_TIER: exchange.service_tier if exchange else None,
        semconv.REPORTED_COST_USD: exchange.reported_cost_usd if exchange else None,
        semconv.USAGE_SOURCE: source,
        semconv.CALL_ORIGIN: call.origin,
        semconv.TIME_TO_FIRST_TOKEN: _time_to_first_token(call, node),
    }
    finish = call.finish_reason or (exchange.finish_reason if exchange else None)
    if finish:
        values[semconv.FINISH_REASONS] = (finish,)
    attributes: dict[str, AttributeValue] = {
        name: value for name, value in values.items() if value is not None
    }
    attributes.update(usage_attributes(usage))
    return attributes


def _usage(call: ModelCall, provider: str | None) -> tuple[TokenUsage, str]:
    """(usage, its source): the wire's where it has one, else the event's, else the counter's."""
    exchange = call.exchange
    if exchange is not None and is_known(exchange):
        return exchange.usage, "stream" if exchange.streamed else "wire"
    usage = read_usage(call.usage, provider=provider)
    if usage.status == "missing" and call.reconciled is not None:
        return call.reconciled, "counter"
    if usage.status == "missing" and exchange is not None:
        return (
            exchange.usage
            if exchange.usage.status == "invalid" or exchange.usage.flags
            else MISSING,
            "wire",
        )
    return usage, "event"


def _was_refused(exchange: HttpExchange | None) -> bool:
    """True where nothing can have been billed: the provider answered with an HTTP error, or nothing was ever sent."""
    return exchange is None or (exchange.status_code or 0) >= 400


def _time_to_first_token(call: ModelCall, node: OpenSpan) -> float | None:
    first = call.first_chunk_ns
    if first is None and call.exchange is not None and call.exchange.streamed:
        first = call.exchange.first_chunk_ns
    return None if first is None else max(0, first - node.started_ns) / 1e9
