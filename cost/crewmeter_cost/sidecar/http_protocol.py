"""uvicorn's HTTP protocol with limits on slow and idle connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.auto import AutoHTTPProtocol

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope, Send

    from crewmeter_cost.sidecar.settings import Limits

__all__ = ["limited_protocol"]

_HEAD_BYTES = 65_536
"""Of a request's head. Browsers and proxies stop at 8 to 32 KiB."""
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503 with Retry-After, which uvicorn's own response for too many lacks.

    The OTLP specification lets a client without it drop its data sooner.
    """
    headers = {"retry-after": "1", "connection": "close"}
    response = PlainTextResponse("too many connections; try again\n", 503, headers)
    await response(scope, receive, send)


def limited_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return a protocol class for `limits`.

    A connection without a request under way that does not finish the head of one in time, or
    within `_HEAD_BYTES`, is closed. Where there are as many connections as allowed, a new one takes
    the slot of the one that has been idle longest, and is answered 503 where none is idle.
    """
    seconds = limits.header_seconds

    class LimitedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # chosen at import
        _timer: asyncio.TimerHandle | None = None
        _head = 0
        _idle_since = 0.0

        @property
        def _is_idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > limits.connections and not self._close_idlest():
                self.app = _overloaded

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self._is_idle:
                self._head = 0
                self._stop_waiting()
                return
            self._head += len(data)
            if self._timer is None:
                self._wait()
            if self._head > _HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

        def on_response_complete(self) -> None:
            self._head = 0
            self._idle_since = self.loop.time()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _close_idlest(self) -> bool:
            idle = [
                other
                for other in self.connections
                if other is not self and other._is_idle and not other.transport.is_closing()
            ]
            if idle:
                min(
                    idle,
                    key=lambda other: other._idle_since,
                ).transport.close()
            return bool(idle)

        def _wait(self) -> None:
            self._idle_since = self.loop.time()
            self._timer = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if self._is_idle and not self.transport.is_closing():
                self.transport.close()

    return LimitedProtocol
