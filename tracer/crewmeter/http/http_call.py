"""One HTTP exchange with a model provider, and the hub that tells the tracer about it. No HTTP library is imported here."""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar, cast

from crewmeter.budget_hook.protocol import BudgetExceeded
from crewmeter.usage.token_usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HttpExchange", "Hub", "guarded", "inside"]

_log = logging.getLogger("crewmeter")
_LOG_EVERY_NS = 60 * 10**9

inside: ContextVar[str | None] = ContextVar("crewmeter_wire_inside", default=None)
"""The library by which a request already seen is being sent: LiteLLM's httpx sends through aiohttp, and that is one exchange."""


T = TypeVar("T")


class _LazyField(Generic[T]):
    """A field of `HttpExchange` that its answer tells: asking for it reads the answer, if that was put off."""

    def __init__(self, slot: str) -> None:
        self._slot = slot

    def __get__(self, exchange: HttpExchange, owner: type) -> T:
        if exchange._unread is not None:
            exchange._read()
        value: T = getattr(exchange, self._slot)
        return value

    def __set__(self, exchange: HttpExchange, value: T) -> None:
        setattr(exchange, self._slot, value)


class HttpExchange:
    """One HTTP request that a provider may bill, as its URL, bodies and status tell it. Numbers and names only, never content.

    Fields fill in as they become known, so a look at any time is valid; after `done` nothing changes any more.
    """

    __slots__ = (
        "_ask",
        "_error_type",
        "_finish_reason",
        "_reported_cost_usd",
        "_request_model",
        "_response_id",
        "_response_model",
        "_service_tier",
        "_unread",
        "_usage",
        "api",
        "done",
        "ended_ns",
        "first_chunk_ns",
        "host",
        "operation",
        "owner",
        "port",
        "provider",
        "started_ns",
        "status_code",
        "streamed",
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
        ask: Callable[[], str | None] | None = None,
    ) -> None:
        """``ask`` gives a better `request_model`; it is asked once, when somebody wants to know."""
        self.operation = operation
        """A ``semconv`` operation: chat, embeddings, rerank, …"""
        self.api = api
        """The protocol spoken: openai, responses, anthropic, gemini, bedrock, cohere, ollama, …"""
        self.provider = provider
        """Canonical name: the host's provider, else the one whose protocol this is (an assumption: see `resolve_provider`)."""
        self.host = host
        self.port = port
        self._request_model = request_model
        self._ask = ask
        self._response_model: str | None = None
        self._response_id: str | None = None
        self._usage: TokenUsage = MISSING
        self._service_tier: str | None = None
        self._finish_reason: str | None = None
        self._reported_cost_usd: str | None = None
        self._unread: Callable[[HttpExchange], None] | None = None
        self.status_code: int | None = None
        self._error_type: str | None = None
        self.started_ns = time.time_ns()
        self.first_chunk_ns: int | None = None
        self.ended_ns: int | None = None
        self.streamed = False
        self.done = False
        self.owner: object | None = None
        """For whoever listens: where in the crew the exchange belongs."""

    response_model = _LazyField[str | None]("_response_model")
    response_id = _LazyField[str | None]("_response_id")
    usage = _LazyField[TokenUsage]("_usage")
    service_tier = _LazyField[str | None]("_service_tier")
    finish_reason = _LazyField[str | None]("_finish_reason")
    reported_cost_usd = _LazyField[str | None]("_reported_cost_usd")
    error_type = _LazyField[str | None]("_error_type")
    """HTTP status of a refusal, what an answer calls its failure, or the name of the exception that ended the exchange."""

    @property
    def request_model(self) -> str | None:
        """The model asked for."""
        if self._ask is not None:
            self._request_model = self._ask() or self._request_model
            self._ask = None
        return self._request_model

    def read_later(self, read: Callable[[HttpExchange], None]) -> None:
        """Leave the answer unread until somebody asks what it said; that is the export thread, and not the app's."""
        self._unread = read

    def _read(self) -> None:
        read, self._unread = self._unread, None
        if read is None:
            return
        try:
            read(self)
        except Exception as error:  # noqa: BLE001 - the guard of this seam, for an answer read late
            self._usage = replace(MISSING, flags=("body_not_read",))
            _report("read_later", error)

    def __repr__(self) -> str:
        return f"<Exchange {self.operation} {self.request_model} at {self.provider} {self.status_code} {self.usage.status}>"


class Hub:
    """Where exchanges are announced. `active` turns false on uninstall, so a seam somebody wrapped meanwhile passes through."""

    __slots__ = ("_closed", "_late", "_opened", "active")

    def __init__(
        self, *, opened: Callable[[HttpExchange], None], closed: Callable[[HttpExchange], None]
    ) -> None:
        self._opened = opened
        self._closed = closed
        self._late: deque[HttpExchange] = deque()
        self.active = True

    def open(self, exchange: HttpExchange) -> None:
        """Announce a request about to be sent, in its caller's thread and context."""
        if self._late:
            self.settle()
        self._opened(exchange)

    def close(self, exchange: HttpExchange) -> None:
        """Announce the end of an exchange, once."""
        if not exchange.done:
            _end(exchange)
            self._closed(exchange)

    def close_late(self, exchange: HttpExchange) -> None:
        """The end of an exchange noticed while garbage is collected: told later, since the collector may hold anybody's lock."""
        if not exchange.done:
            _end(exchange)
            self._late.append(exchange)

    def settle(self) -> None:
        """Announce the ends that were noticed out of band."""
        while self._late:
            try:
                exchange = self._late.popleft()
            except IndexError:  # another thread was faster
                return
            self._closed(exchange)


def _end(exchange: HttpExchange) -> None:
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
        except BudgetExceeded:
            raise  # a refusal is no fault: the request must not be sent
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
    _log.warning(
        "could not read a model's HTTP exchange (%s in %s, line %d; %d so far)",
        type(error).__name__,
        what,
        line,
        count,
    )
