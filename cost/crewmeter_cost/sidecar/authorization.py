"""The door of the HTTP side: keys and roles, hosts, and connections that dawdle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from crewmeter_cost.sidecar.settings import is_loopback

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp, Receive, Scope, Send

    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.settings import SidecarSettings

__all__ = ["AuthorizationMiddleware", "patient_protocol", "role_of"]

_OPEN = frozenset({"/healthz", "/readyz"})
_HEAD_BYTES = 65_536
"""Of a request's head, beyond which its connection is closed: browsers and proxies stop at 8 to 32 KiB."""


def role_of(path: str) -> str | None:
    """The role a path asks for: none for health checks, ``ingest`` for OTLP and budget accounts, ``read`` for all else there ever is."""
    if path in _OPEN:
        return None
    return "ingest" if path.startswith(("/v1/", "/api/budgets/")) else "read"


class AuthorizationMiddleware:
    """ASGI middleware that lets in who may come in.

    Without keys, on loopback, the Host header must name loopback too: else a web page could reach the ledger by letting
    its own name resolve to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, settings: SidecarSettings, metrics: SidecarMetrics) -> None:
        self._app = app
        self._keys = settings.keys
        self._local_only = is_loopback(settings.host) and not settings.keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or pass the request on."""
        if scope["type"] == "http":
            headers = {
                name: value.decode("latin-1")
                for name, value in scope["headers"]
                if name in (b"authorization", b"host")
            }
            role = role_of(scope["path"])
            if role is not None and not self._keys.allow(headers.get(b"authorization"), role):
                if role == "ingest":
                    self._metrics.requests.labels("http", "unauthorized").inc()
                challenge = (
                    'Bearer realm="crewmeter"'
                    if role == "ingest"
                    else 'Basic realm="crewmeter", charset="UTF-8"'
                )
                refusal = PlainTextResponse(
                    f"a key with the role {role} is needed\n", 401, {"www-authenticate": challenge}
                )
                await refusal(scope, receive, send)
                return
            if (
                self._local_only
                and role == "read"
                and not is_loopback(_host(headers.get(b"host", "")))
            ):
                await PlainTextResponse("this sidecar answers to localhost only\n", 403)(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)


def _host(header: str) -> str:
    """The host of a Host header, without its port and brackets."""
    return (
        header.partition("]")[0].removeprefix("[")
        if header.startswith("[")
        else header.partition(":")[0]
    )


def patient_protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with an end to its patience.

    A connection that has no request under way and does not finish the head of one within `seconds` of its first byte (or of
    connecting), or within `_HEAD_BYTES`, is closed. Where there are as many connections as allowed, a new one takes the place
    of the one that has been idle longest. So clients that dawdle hold nothing and keep nobody out.
    """

    class Patient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # a class chosen at import by what is installed
        _patience: asyncio.TimerHandle | None = None
        _head = 0
        _idle_since = 0.0

        @property
        def _is_idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()
            if (
                self.limit_concurrency is not None
                and len(self.connections) >= self.limit_concurrency
            ):
                idle = [
                    other
                    for other in self.connections
                    if other is not self and other._is_idle and not other.transport.is_closing()
                ]
                if idle:
                    min(idle, key=lambda other: other._idle_since).transport.close()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_idle:
                self._head += len(data)
                if self._patience is None:
                    self._wait()
                if self._head > _HEAD_BYTES and not self.transport.is_closing():
                    self.transport.write(
                        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    )
                    self.transport.close()
            else:
                self._head = 0
                self._stop_waiting()

        def on_response_complete(self) -> None:
            self._head, self._idle_since = 0, self.loop.time()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._idle_since = self.loop.time()
            self._patience = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _give_up(self) -> None:
            self._patience = None
            if self._is_idle and not self.transport.is_closing():
                self.transport.close()

    return Patient
