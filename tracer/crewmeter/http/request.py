"""How an exchange begins, and how it ends without an answer.

It is the same for every HTTP library.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crewmeter.http.http_call import HttpExchange, sending_library
from crewmeter.providers.protocols.generic import UNROUTED
from crewmeter.providers.registry import find_endpoint
from crewmeter.usage.token_usage import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.http.http_call import HttpObserver
    from crewmeter.providers.registry import Endpoint

__all__ = ["begin", "begin_at", "end_without_answer", "is_nested"]

_BACKGROUND_KEY = b'"background"'
_BACKGROUND_SEARCHED = 64 * 1024
"""Bytes at either end of a request that are searched for its wish to be answered later."""


def begin(
    observer: HttpObserver,
    library: str,
    path: str,
    body: Callable[[], bytes],
    host: str | None = None,
    port: int | None = None,
) -> HttpExchange | None:
    """Open the exchange that a POST to ``path`` makes, if it is a call to a model.

    Without ``host``, ``path`` is a whole URL. ``body`` gives the request's body, which is searched
    when somebody wants to know the model in it.
    """
    found = find_endpoint(
        path.partition("?")[0],
        host,
        port,
    )
    if found is None or is_nested(library):
        return None
    return begin_at(observer, found, body)


def begin_at(
    observer: HttpObserver, found: Endpoint, body: Callable[[], bytes]
) -> HttpExchange | None:
    """Do as `begin` for a request whose endpoint is known."""
    protocol = found.protocol
    exchange = HttpExchange(
        operation=found.operation,
        protocol=protocol,
        provider=found.provider,
        host=found.host,
        port=found.port,
        request_model=found.model,
        request_body=None if protocol.model_in_path else body,
        is_known_host=found.is_known_host,
    )
    if not found.is_sure and not exchange.request_model:
        return None
    if protocol is UNROUTED:
        exchange.facts.flag("unrouted")
    elif protocol.answers_later:
        exchange.in_background = _wants_background(body())
    observer.open(exchange)
    return exchange


def _wants_background(body: bytes) -> bool:
    head = body[:_BACKGROUND_SEARCHED]
    return _BACKGROUND_KEY in head or _BACKGROUND_KEY in body[-_BACKGROUND_SEARCHED:]


def is_nested(library: str) -> bool:
    """Tell whether the request is part of one already observed, or its redirect.

    A request that httpx makes inside another of its own is a request of its own: an interceptor
    that calls a model first.
    """
    outer = sending_library.get()
    return outer is not None and not (outer == library == "httpx")


_NEVER_SENT = frozenset(
    [
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "UnsupportedProtocol",
        "LocalProtocolError",
        "ProxyError",
        "InvalidURL",
        "ClientConnectorError",
        "ClientConnectorDNSError",
        "ConnectionTimeoutError",
        "ClientProxyConnectionError",
        "ConnectionRefusedError",
        "gaierror",
        "NewConnectionError",
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "ParamValidationError",
        "NoCredentialsError",
        "ClosedPoolError",
    ]
)
"""Exceptions after which the provider has not seen the request."""
_CAUSES_FOLLOWED = 5


def end_without_answer(
    observer: HttpObserver, exchange: HttpExchange, error: BaseException | None
) -> None:
    """End an exchange with an HTTP error status, or with ``error`` on the way.

    The usage says whether it may be billed all the same.
    """
    if exchange.in_background and exchange.facts.is_unfinished:
        return  # a look at an answer in the background failed; the next one may not
    exchange.in_background = False
    if error is None:
        exchange.error_type = str(exchange.status_code)
        exchange.usage = replace(MISSING, flags=("rejected",))
    else:
        exchange.error_type = type(error).__name__
        flag = "rejected" if _was_never_sent(error) else "may_be_billed"
        exchange.usage = replace(MISSING, flags=(flag,))
    observer.close(exchange)


def _was_never_sent(error: BaseException) -> bool:
    seen: object = error
    for _ in range(_CAUSES_FOLLOWED):
        if not isinstance(seen, BaseException):
            return False
        if type(seen).__name__ in _NEVER_SENT:
            return True
        inner = next(
            (item for item in seen.args if isinstance(item, BaseException)),
            None,
        )
        seen = inner or getattr(seen, "reason", None) or seen.__cause__
    return False
