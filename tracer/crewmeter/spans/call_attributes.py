"""A finished model call as span attributes: what the ledger needs to price it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crewmeter import semconv
from crewmeter.providers.hosts import resolve_provider
from crewmeter.providers.usage_reading import read_usage
from crewmeter.redaction import model_name
from crewmeter.spans.model_call import KNOWN_STATUSES
from crewmeter.usage.attributes import usage_attributes
from crewmeter.usage.token_usage import MISSING

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from crewmeter.http.http_call import HttpExchange
    from crewmeter.spans.model_call import ModelCall
    from crewmeter.spans.span import OpenSpan
    from crewmeter.usage.token_usage import TokenUsage

__all__ = ["call_attributes", "host_of", "names_of"]


@lru_cache(maxsize=256)
def host_of(endpoint: str) -> tuple[str | None, int | None]:
    """Return (host, port) of a URL or ``host:port``, None for what it leaves out."""
    url = endpoint if "//" in endpoint else f"//{endpoint}"
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port
    except ValueError:
        return None, None


@lru_cache(maxsize=1024)
def names_of(
    declared: str | None, model: str | None, host: str | None
) -> tuple[str | None, str | None]:
    """Return (provider, model), without the provider's name before the model's.

    LiteLLM puts it there.
    """
    if declared is None and model and "/" in model:
        declared, model = model.split("/", 1)
    elif declared and model:
        model = model.removeprefix(f"{declared}/")
    provider, _ = resolve_provider(declared, host)
    return provider, model


def call_attributes(call: ModelCall, node: OpenSpan) -> dict[str, AttributeValue]:
    """Return the call under semconv's names, and nothing for what is unknown."""
    exchange = call.exchange
    declared = call.declared
    host, port = _server(call)
    if declared is None and exchange is not None:
        declared = exchange.provider
    provider, model = names_of(
        declared,
        call.model,
        host,
    )
    usage, source = _usage(call, provider)
    if usage.status == "missing" and node.error_type is not None and _was_refused(exchange):
        usage = _with_flag(usage, "rejected")
    if source == "event" and usage.status == "reported" and not call.exchanges:
        # Either nothing was sent, or by a client that is not observed. Only the former is free.
        usage = _with_flag(
            usage,
            "not_sent" if call.not_sent else "no_exchange",
        )
    values: dict[str, AttributeValue | None] = {
        semconv.OPERATION: call.operation,
        semconv.PROVIDER: provider,
        semconv.DECLARED_PROVIDER: declared,
        semconv.SERVER_ADDRESS: host,
        semconv.SERVER_PORT: port,
        semconv.REQUEST_MODEL: model,
        semconv.RESPONSE_ID: call.response_id,
        semconv.USAGE_SOURCE: source,
        semconv.CALL_ORIGIN: call.origin,
        semconv.TIME_TO_FIRST_TOKEN: _time_to_first_token(call, node),
    }
    finish = call.finish_reason
    if exchange is not None:
        values.update(_response_values(exchange, call, model))
        finish = finish or exchange.facts.finish_reason
    if finish:
        values[semconv.FINISH_REASONS] = (finish,)
    attributes: dict[str, AttributeValue] = {
        name: value for name, value in values.items() if value is not None
    }
    attributes.update(usage_attributes(usage))
    return attributes


def _response_values(
    exchange: HttpExchange, call: ModelCall, model: str | None
) -> dict[str, AttributeValue | None]:
    """Return what the exchange says beyond its usage."""
    facts = exchange.facts
    return {
        semconv.REQUEST_MODEL: exchange.request_model or model,
        semconv.RESPONSE_MODEL: model_name(facts.response_model),
        semconv.RESPONSE_ID: facts.response_id or call.response_id,
        semconv.SERVICE_TIER: facts.service_tier,
        semconv.REPORTED_COST_USD: facts.reported_cost_usd,
    }


def _server(call: ModelCall) -> tuple[str | None, int | None]:
    """Return (host, port): the exchange's, else those of the LLM object's URL."""
    if call.exchange is not None:
        return call.exchange.host, call.exchange.port
    if call.endpoint:
        return host_of(call.endpoint)
    return None, None


def _usage(call: ModelCall, provider: str | None) -> tuple[TokenUsage, str]:
    """Return (usage, source): the exchange's, else the event's, else the counter's."""
    exchange = call.exchange
    if exchange is not None:
        seen = exchange.usage
        if seen.status in KNOWN_STATUSES:
            return seen, "stream" if exchange.streamed else "wire"
    usage = read_usage(call.usage, provider=provider)
    if usage.status != "missing":
        return usage, "event"
    if call.reconciled is not None:
        return call.reconciled, "counter"
    if exchange is None:
        return usage, "event"
    if seen.status == "invalid" or seen.flags:
        return seen, "wire"
    return MISSING, "wire"


def _with_flag(usage: TokenUsage, flag: str) -> TokenUsage:
    if flag in usage.flags:
        return usage
    return replace(
        usage,
        flags=(*usage.flags, flag),
    )


def _was_refused(exchange: HttpExchange | None) -> bool:
    """Return True where nothing can have been billed.

    The provider answered with an HTTP error, or nothing was ever sent.
    """
    return exchange is None or (exchange.status_code or 0) >= 400


def _time_to_first_token(call: ModelCall, node: OpenSpan) -> float | None:
    """Return the seconds until the first chunk of a stream, None for a whole response."""
    first = call.first_chunk_ns
    exchange = call.exchange
    if first is None and exchange is not None and exchange.streamed:
        first = exchange.first_chunk_ns
    if first is None:
        return None
    return (
        max(
            0,
            first - node.started_ns,
        )
        / 1e9
    )
