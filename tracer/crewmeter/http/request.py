"""How an exchange begins, and how it ends without an answer; the same for every HTTP library."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.http.http_call import HttpExchange, inside
from crewmeter.providers.hosts import provider_of_host
from crewmeter.providers.registry import model_in_body, target
from crewmeter.providers.usage_reading import read_usage, reported_cost
from crewmeter.usage.token_usage import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crewmeter.http.http_call import Hub

__all__ = ["begin", "invoked_operation", "nested", "price_headers", "refused"]


def begin(
    hub: Hub,
    library: str,
    path: str,
    body: Callable[[], bytes],
    host: str | None = None,
    port: int | None = None,
) -> HttpExchange | None:
    """Open the exchange that a POST to ``path`` makes, if it is a call to a model. Without ``host``, ``path`` is a whole URL.

    ``body`` gives the request's, which is looked at when somebody asks for the model in it.
    """
    found = target(path.partition("?")[0], host, port)
    if found is None or nested(library):
        return None
    route, model = found.route, found.model
    exchange = HttpExchange(
        operation=invoked_operation(model) if route.api == "bedrock.invoke" else route.operation,
        api=route.api,
        provider=found.provider,
        host=found.host,
        port=found.port,
        request_model=model,
        ask=(lambda: model_in_body(body())) if found.in_body else None,
    )
    if not (route.sure or found.known or exchange.request_model):
        return None
    hub.open(exchange)
    return exchange


def nested(library: str) -> bool:
    """True if the request is the lower half of one already seen, or its redirect.

    A request httpx makes inside another of its own is a request of its own: an interceptor that asks a model first.
    """
    outer = inside.get()
    return outer is not None and not (outer == library == "httpx")


def invoked_operation(model: str | None) -> str:
    """What Bedrock's InvokeModel does is told by the model's name only."""
    name = model or ""
    return (
        semconv.EMBEDDINGS
        if "embed" in name
        else semconv.RERANK
        if "rerank" in name
        else semconv.CHAT
    )


_BEDROCK_COUNTS = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}


def price_headers(exchange: HttpExchange, headers: Mapping[str, str]) -> None:
    """What an answer's headers say of its price: a LiteLLM gateway's own figure, Bedrock's token counts."""
    if exchange.api == "bedrock.invoke":
        found = {ours: headers.get(theirs, "") for ours, theirs in _BEDROCK_COUNTS.items()}
        counts = {name: int(text) for name, text in found.items() if text.isdecimal()}
        if counts:
            exchange.usage = read_usage(counts, operation=exchange.operation)
        exchange.response_id = headers.get("x-amzn-requestid")
    elif provider_of_host(exchange.host) is None:
        cost = headers.get("x-litellm-response-cost")
        if cost:
            exchange.reported_cost_usd = reported_cost({"cost": cost})


_NEVER_SENT = frozenset(
    {
        *(
            "ConnectError",
            "ConnectTimeout",
            "PoolTimeout",
            "UnsupportedProtocol",
            "LocalProtocolError",
            "ProxyError",
            "InvalidURL",
        ),
        *(
            "ClientConnectorError",
            "ClientConnectorDNSError",
            "ConnectionTimeoutError",
            "ClientProxyConnectionError",
        ),
        *(
            "ConnectionRefusedError",
            "gaierror",
            "NewConnectionError",
            "EndpointConnectionError",
            "ConnectTimeoutError",
        ),
        *("ParamValidationError", "NoCredentialsError", "ClosedPoolError"),
    }
)
"""Exceptions after which the provider has not seen the request."""


def refused(hub: Hub, exchange: HttpExchange, error: BaseException | None) -> None:
    """End an exchange that got no answer: an HTTP error status, or ``error`` on the way. Not billed where that is certain."""
    if error is None:
        exchange.error_type = str(exchange.status_code)
        exchange.usage = replace(MISSING, flags=("rejected",))
    else:
        exchange.error_type = type(error).__name__
        exchange.usage = replace(
            MISSING, flags=("rejected",) if _never_sent(error) else ("may_be_billed",)
        )
    hub.close(exchange)


def _never_sent(error: BaseException) -> bool:
    seen: BaseException | None = error
    for _ in range(5):
        if seen is None:
            return False
        if type(seen).__name__ in _NEVER_SENT:
            return True
        reason = next((item for item in seen.args if isinstance(item, BaseException)), None)
        seen = reason or getattr(seen, "reason", None) or seen.__cause__
        if not isinstance(seen, BaseException):
            return False
    return False
