"""A finished model call as values: what the ledger needs to price it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crewmeter.providers.hosts import resolve_provider
from crewmeter.providers.usage_reading import read_usage
from crewmeter.redaction import model_name
from crewmeter.spans.model_call import KNOWN_STATUSES
from crewmeter.usage.attributes import usage_values
from crewmeter.usage.token_usage import MISSING

if TYPE_CHECKING:
    from crewmeter.http.http_call import HttpExchange
    from crewmeter.providers.provider_protocol import PlainAnswer
    from crewmeter.spans.model_call import ModelCall
    from crewmeter.spans.span import OpenSpan
    from crewmeter.usage.token_usage import TokenUsage

__all__ = ["call_values", "host_of", "names_of"]


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

    LiteLLM writes models that way.
    """
    if declared is None and model and "/" in model:
        declared, model = model.split("/", 1)
    elif declared and model:
        model = model.removeprefix(f"{declared}/")
    provider, _ = resolve_provider(declared, host)
    return provider, model


def call_values(call: ModelCall, node: OpenSpan) -> tuple[Any, ...]:
    """Return the values of `CALL_NAMES`, None for what is unknown, and what is rare.

    It runs on the app's thread where there is a journal, so each step here is paid by a call.
    """
    exchange = call.exchange
    if exchange is not None:
        plain = exchange.plain_answer()
        if plain is not None:
            return _plain_values(call, node, exchange, plain)
    declared = call.declared
    response_id = call.response_id
    finish = call.finish_reason
    if exchange is None:
        host, port = _endpoint(call)
        provider, model = names_of(declared, call.model, host)
        response_model = tier = cost = None
        usage, source = _unobserved_usage(call, provider)
    else:
        host = exchange.host
        port = exchange.port
        declared = declared or exchange.provider
        provider, model = names_of(declared, call.model, host)
        facts = exchange.facts
        usage, source = _observed_usage(call, exchange, facts.usage, provider)
        model = exchange.request_model or model
        response_model = model_name(facts.response_model)
        response_id = facts.response_id or response_id
        tier = facts.service_tier
        cost = facts.reported_cost_usd
        finish = finish or facts.finish_reason
    if usage.status == "missing" and node.error_type is not None and _was_refused(exchange):
        usage = _with_flag(usage, "rejected")
    return (
        call.operation,
        provider,
        declared,
        host,
        port,
        model,
        response_model,
        response_id,
        tier,
        cost,
        source,
        call.origin,
        _time_to_first_token(call, node),
        (finish,) if finish else None,
        *usage_values(usage),
    )


def _plain_values(
    call: ModelCall, node: OpenSpan, exchange: HttpExchange, plain: PlainAnswer
) -> tuple[Any, ...]:
    """Return the values of a call whose answer was read the short way."""
    response_id, response_model, tier, finish, counts = plain
    total_in, total_out, cached, five_minutes, hour, reasoning = counts
    declared = call.declared or exchange.provider
    provider, model = names_of(declared, call.model, exchange.host)
    finish = call.finish_reason or finish
    first_token_s = None
    if call.first_chunk_ns is not None:
        first_token_s = _time_to_first_token(call, node)
    return (
        call.operation,
        provider,
        declared,
        exchange.host,
        exchange.port,
        exchange.request_model or model,
        model_name(response_model),
        response_id or call.response_id,
        tier,
        None,
        "wire",
        call.origin,
        first_token_s,
        (finish,) if finish else None,
        "reported",
        total_in,
        total_out,
        cached or None,
        (five_minutes + hour) or None,
        five_minutes or None,
        hour or None,
        reasoning or None,
        None,
    )


def _endpoint(call: ModelCall) -> tuple[str | None, int | None]:
    """Return (host, port) of the LLM object's URL."""
    if call.endpoint:
        return host_of(call.endpoint)
    return None, None


def _observed_usage(
    call: ModelCall, exchange: HttpExchange, seen: TokenUsage, provider: str | None
) -> tuple[TokenUsage, str]:
    """Return (usage, source): the exchange's, else the event's, else the counter's."""
    if seen.status in KNOWN_STATUSES:
        return seen, "stream" if exchange.streamed else "wire"
    usage = read_usage(call.usage, provider=provider)
    if usage.status != "missing":
        return _sent_or_not(call, usage), "event"
    if call.reconciled is not None:
        return call.reconciled, "counter"
    if seen.status == "invalid" or seen.flags:
        return seen, "wire"
    return MISSING, "wire"


def _unobserved_usage(call: ModelCall, provider: str | None) -> tuple[TokenUsage, str]:
    """Return (usage, source) without an exchange: the event's, else the counter's."""
    usage = read_usage(call.usage, provider=provider)
    if usage.status == "missing" and call.reconciled is not None:
        return call.reconciled, "counter"
    return _sent_or_not(call, usage), "event"


def _sent_or_not(call: ModelCall, usage: TokenUsage) -> TokenUsage:
    """Flag a usage that only an event reports.

    Either nothing was sent, or by a client that is not observed. Only the former is free.
    """
    if usage.status != "reported" or call.exchanges:
        return usage
    return _with_flag(usage, "not_sent" if call.not_sent else "no_exchange")


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
