"""One HTTP exchange with a model provider, and the hub that tells the tracer about it. No HTTP library is imported here."""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, cast

from crewmeter.usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Exchange", "Hub", "guarded", "inside"]

_log = logging.getLogger("crewmeter")
_LOG_EVERY_NS = 60 * 10**9

inside: ContextVar[str | None] = ContextVar("crewmeter_wire_inside", default=None)
"""The library by which a request already seen is being sent: LiteLLM's httpx sends through aiohttp, and that is one exchange."""


class Exchange:
    """One HTTP request that a provider may bill, as its URL, bodies and status tell it. Numbers and names only, never content.

    Fields fill in as they become known, so a look at any time is valid; after `done` nothing changes any more.
    """

    __slots__ = (
        "api",
        "done",
        "ended_ns",
        "error_type",
        "finish_reason",
        "first_chunk_ns",
        "host",
        "operation",
        "owner",
        "port",
        "provider",
        "reported_cost_usd",
        "request_model",
        "response_id",
        "response_model",
        "service_tier",
        "started_ns",
        "status_code",
        "streamed",
        "usage",
    )

    def __init__(
        self,
        *,
        operation: str,
        api: str,
        provider: str | None,
        host: str | None,
        port: int | None,
        request_model: str | None,
    ) -> None:
        self.operation = operation
        """A ``semconv`` operation: chat, embeddings, rerank, …"""
        self.api = api
        """The protocol spoken: openai, responses, anthropic, gemini, bedrock, cohere, ollama, …"""
        self.provider = provider
        """Canonical name: the host's provider, else the one whose protocol this is (an assumption: see `resolve_provider`)."""
        self.host = host
        self.port = port
        self.request_model = request_model
        self.response_model: str | None = None
        self.response_id: str | None = None
        self.usage: TokenUsage = MISSING
        self.service_tier: str | None = None
        self.finish_reason: str | None = None
        self.reported_cost_usd: str | None = None
        self.status_code: int | None = None
        self.error_type: str | None = None
        """HTTP status of a refusal, or the name of the exception that ended the exchange."""
        self.started_ns = time.time_ns()
        self.first_chunk_ns: int | None = None
        self.ended_ns: int | None = None
        self.streamed = False
        self.done = False
        self.owner: object | None = None
        """For whoever listens: where in the crew the exchange belongs."""

    def __repr__(self) -> str:
        return f"<Exchange {self.operation} {self.request_model} at {self.provider} {self.status_code} {self.usage.status}>"


class Hub:
    """Where exchanges are announced. `active` turns false on uninstall, so a seam somebody wrapped meanwhile passes through."""

    __slots__ = ("_closed", "_late", "_opened", "active")

    def __init__(self, *, opened: Callable[[Exchange], None], closed: Callable[[Exchange], None]) -> None:
        self._opened = opened
        self._closed = closed
        self._late: deque[Exchange] = deque()
        self.active = True

    def open(self, exchange: Exchange) -> None:
        """Announce a request about to be sent, in its caller's thread and context."""
        if self._late:
            self.settle()
        self._opened(exchange)

    def close(self, exchange: Exchange) -> None:
        """Announce the end of an exchange, once."""
        if not exchange.done:
            self._end(exchange)
            self._closed(exchange)

    def close_late(self, exchange: Exchange) -> None:
        """The end of an exchange noticed while garbage is collected: told later, since the collector may hold anybody's lock."""
        if not exchange.done:
            self._end(exchange)
            self._late.append(exchange)

    def settle(self) -> None:
        """Announce the ends that were noticed out of band."""
        while self._late:
            try:
                exchange = self._late.popleft()
            except IndexError:  # another thread was faster
                return
            self._closed(exchange)

    @staticmethod
    def _end(exchange: Exchange) -> None:
        exchange.ended_ns = time.time_ns()
        exchange.done = True


P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
_last_logged_ns = -_LOG_EVERY_NS
_swallowed = 0


def guarded(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """The one guard of this seam: whatever goes wrong in ``method`` is logged at most once a minute and never reaches the host."""

    @functools.wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the guard: the host's HTTP call must not notice us
            _report(method.__name__, error)
            return None

    return cast("Callable[Concatenate[S, P], R | None]", call)


def _report(what: str, error: Exception) -> None:
    """Log what went wrong by type and place; never the message, which may quote a body."""
    global _last_logged_ns, _swallowed
    now = time.monotonic_ns()
    _swallowed += 1
    if now - _last_logged_ns < _LOG_EVERY_NS:
        return
    _last_logged_ns, count, _swallowed = now, _swallowed, 0
    trace, line = error.__traceback__, 0
    while trace is not None:
        line, trace = trace.tb_lineno, trace.tb_next
    _log.warning("could not read a model's HTTP exchange (%s in %s, line %d; %d so far)", type(error).__name__, what, line, count)
