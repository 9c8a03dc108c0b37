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
    """Wrap what begins, sends, answers and gives up a request of ``HTTPConnection``.

    The returned function puts the very same functions back.
    """
    hooks = _HttpClientHooks(observer)
    connection = http_client.HTTPConnection
    undo = (
        replace(connection, "putrequest", hooks.around_request),
        replace(connection, "send", hooks.around_send),
        replace(connection, "getresponse", hooks.around_response),
        replace(connection, "close", hooks.around_close),
    )

    def restore() -> None:
        for put_back in undo:
            put_back()

    return restore


class _HttpClientHooks:
    """What happens as a request is begun, is sent, is answered or comes to nothing."""

    __slots__ = ("_observer",)

    def __init__(self, observer: HttpObserver) -> None:
        self._observer = observer

    def around_request(self, original: Any) -> Any:
        """Return ``putrequest`` with a look at what is requested."""

        def putrequest(connection: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            if method == "POST" and self._observer.active and sending_library.get() is None:
                self._drop(connection)
                self._begin(connection, url)
            try:
                return original(connection, method, url, *args, **kwargs)
            except BaseException as error:
                self._failed(connection.__dict__.pop(_OPEN, None), error)
                raise

        return putrequest

    def around_send(self, original: Any) -> Any:
        """Return ``send``, which connects first, with a look at its errors."""

        def send(connection: Any, *args: Any, **kwargs: Any) -> Any:
            # Not on the connection meanwhile: one that can't connect closes itself.
            exchange = connection.__dict__.pop(_OPEN, None)
            if exchange is None:
                return original(connection, *args, **kwargs)
            try:
                sent = original(connection, *args, **kwargs)
            except BrokenPipeError:
                # urllib3 reads the answer that came before the whole request was sent.
                setattr(connection, _OPEN, exchange)
                raise
            except BaseException as error:
                self._failed(exchange, error)
                raise
            setattr(connection, _OPEN, exchange)
            return sent

        return send

    def around_response(self, original: Any) -> Any:
        """Return ``getresponse`` with a look at its status."""

        def getresponse(connection: Any, *args: Any, **kwargs: Any) -> Any:
            exchange = connection.__dict__.pop(_OPEN, None)
            try:
                response = original(connection, *args, **kwargs)
            except BaseException as error:
                self._failed(exchange, error)
                raise
            if exchange is not None:
                self._answered(exchange, response)
            return response

        return getresponse

    def around_close(self, original: Any) -> Any:
        """Return ``close`` with a look at a request that nobody will read the answer of."""

        def close(connection: Any) -> Any:
            self._drop(connection)
            return original(connection)

        return close

    @guarded
    def _begin(self, connection: Any, url: str) -> None:
        found = find_endpoint(url.partition("?")[0], *_address_of(connection))
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
        self._observer.open(exchange)
        setattr(connection, _OPEN, exchange)

    def _drop(self, connection: Any) -> None:
        self._failed(connection.__dict__.pop(_OPEN, None), ConnectionAbortedError())

    @guarded
    def _failed(self, exchange: HttpExchange | None, error: BaseException) -> None:
        if exchange is not None:
            end_without_answer(self._observer, exchange, error)

    @guarded
    def _answered(self, exchange: HttpExchange, response: Any) -> None:
        exchange.status_code = response.status
        if response.status >= 400:
            end_without_answer(self._observer, exchange, None)
            return
        exchange.usage = with_changes(MISSING, flags=("client_not_read", "unrouted"))
        self._observer.close(exchange)


def _address_of(connection: Any) -> tuple[str, int]:
    """Return host and port of who answers: behind a proxy those of the tunnel's end."""
    host = getattr(connection, "_tunnel_host", None)
    if host:
        return host, connection._tunnel_port
    return connection.host, connection.port
