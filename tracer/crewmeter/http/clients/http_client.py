"""The patch of http.client, on which urllib and urllib3 send.

What they send to models is recorded and not read: the rows have no usage, and so no cost.
"""

from __future__ import annotations

from dataclasses import replace as with_changes
from typing import TYPE_CHECKING, Any

from crewmeter.http.fault_guard import guarded
from crewmeter.http.http_call import HttpExchange, sending_library
from crewmeter.http.patching import replace
from crewmeter.http.request import end_without_answer
from crewmeter.providers.hosts import provider_of_host
from crewmeter.providers.protocols.generic import UNROUTED
from crewmeter.providers.registry import find_endpoint
from crewmeter.usage.token_usage import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from crewmeter.http.http_call import HttpObserver

__all__ = ["patch"]

_OPEN = "_crewmeter_exchange"
"""Attribute of a connection: the exchange that it waits for the answer of."""
_BEDROCK_MODELS = "/model/"


def patch(http_client: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap ``HTTPConnection.putrequest`` and ``getresponse``.

    The returned function puts the very same functions back.
    """
    hooks = _HttpClientHooks(observer)
    connection = http_client.HTTPConnection
    undo = (
        replace(connection, "putrequest", hooks.around_request),
        replace(connection, "getresponse", hooks.around_response),
    )

    def restore() -> None:
        for put_back in undo:
            put_back()

    return restore


class _HttpClientHooks:
    """What happens as a request is begun and as its answer comes."""

    __slots__ = ("_observer",)

    def __init__(self, observer: HttpObserver) -> None:
        self._observer = observer

    def around_request(self, original: Any) -> Any:
        """Return ``putrequest`` with a look at what is requested."""

        def putrequest(connection: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            if method == "POST" and self._observer.active and sending_library.get() is None:
                self._begin(connection, url)
            return original(connection, method, url, *args, **kwargs)

        return putrequest

    def around_response(self, original: Any) -> Any:
        """Return ``getresponse`` with a look at its status."""

        def getresponse(connection: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = connection.__dict__.pop(_OPEN, None)
            try:
                response = original(connection, *args, **kwargs)
            except BaseException as error:
                if exchange is not None:
                    self._failed(exchange, error)
                raise
            if exchange is not None:
                self._answered(exchange, response)
            return response

        return getresponse

    @guarded
    def _begin(self, connection: Any, url: str) -> None:
        found = find_endpoint(url.partition("?")[0], connection.host, connection.port)
        if found is None or not found.is_sure:
            return
        if found.protocol is UNROUTED and provider_of_host(found.host) is None:
            return  # a host of the user's may serve more than models, this library's sidecar too
        if found.provider == "aws.bedrock" and _BEDROCK_MODELS not in found.path:
            return  # botocore's own way to what is free
        exchange = HttpExchange(
            operation=found.operation,
            protocol=found.protocol,
            provider=found.provider,
            host=found.host,
            port=found.port,
            request_model=found.model,
            is_known_host=found.is_known_host,
        )
        setattr(connection, _OPEN, exchange)
        self._observer.open(exchange)

    @guarded
    def _failed(self, exchange: HttpExchange, error: BaseException) -> None:
        end_without_answer(self._observer, exchange, error)

    @guarded
    def _answered(self, exchange: HttpExchange, response: Any) -> None:
        exchange.status_code = response.status
        if response.status >= 400:
            end_without_answer(self._observer, exchange, None)
            return
        exchange.usage = with_changes(MISSING, flags=("client_not_read", "unrouted"))
        self._observer.close(exchange)
