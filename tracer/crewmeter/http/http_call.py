"""One HTTP exchange with a model provider, and the observer that announces it."""

from __future__ import annotations

import time
from collections import deque
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from crewmeter.http.fault_guard import report_fault
from crewmeter.providers.request_model import model_in_body
from crewmeter.providers.response_facts import ResponseFacts
from crewmeter.redaction import model_name
from crewmeter.usage.token_usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.providers.provider_protocol import PlainAnswer, ProviderProtocol

__all__ = ["HttpExchange", "HttpObserver", "sending_library"]

sending_library: ContextVar[str | None] = ContextVar("crewmeter_sending_library", default=None)
"""The library by which a request already observed is being sent.

LiteLLM's httpx sends through aiohttp, and that is one exchange.
"""
_MOST_BACKGROUND = 256
"""How many answers in the background are waited for; beyond it the oldest is given up."""

T = TypeVar("T")


class _Fact(Generic[T]):
    """A fact of an exchange's answer.

    Parses the response body on first access.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, exchange: HttpExchange, owner: type) -> T:
        value: T = getattr(
            exchange.facts,
            self._name,
        )
        return value

    def __set__(self, exchange: HttpExchange, value: T) -> None:
        setattr(exchange.facts, self._name, value)


class HttpExchange:
    """One HTTP request that a provider may bill.

    What its URL, bodies and status say. Numbers and names only, never content. Fields fill in as
    they become known, so reading them is valid at any time. After `done` nothing changes any more.
    """

    __slots__ = (
        "_facts",
        "_plain",
        "_request_body",
        "_request_model",
        "_unread",
        "_unread_plain",
        "chunks",
        "done",
        "ended_ns",
        "first_chunk_ns",
        "host",
        "in_background",
        "is_known_host",
        "operation",
        "owner",
        "port",
        "protocol",
        "provider",
        "started_ns",
        "status_code",
        "streamed",
    )

    def __init__(
        self,
        *,
        operation: str,
        protocol: ProviderProtocol,
        provider: str | None,
        host: str | None,
        port: int | None,
        request_model: str | None,
        request_body: Callable[[], bytes] | None = None,
        is_known_host: bool = True,
    ) -> None:
        """Begin an exchange now.

        Args:
            operation: A ``semconv`` operation: chat, embeddings, rerank, …
            protocol: What is spoken.
            provider: Canonical name of the host's provider, else of the one whose protocol it is.
            host: Name of the host.
            port: Its port.
            request_model: The model that the address names, if it names one.
            request_body: Gives the request's body, which may name a better `request_model`. It is
                called once, when somebody wants to know.
            is_known_host: Whether the host named the provider.
        """
        self.operation = operation
        self.protocol = protocol
        self.provider = provider
        self.host = host
        self.port = port
        self.is_known_host = is_known_host
        self._request_model = model_name(request_model)
        self._request_body = request_body
        self._facts: ResponseFacts | None = None
        self._unread: Callable[[HttpExchange], None] | None = None
        self._unread_plain: Callable[[HttpExchange], PlainAnswer | None] | None = None
        self._plain: PlainAnswer | None = None
        self.status_code: int | None = None
        self.started_ns = time.time_ns()
        self.first_chunk_ns: int | None = None
        self.chunks = 0
        """Chunks of a stream that were read so far."""
        self.ended_ns: int | None = None
        self.streamed = False
        self.done = False
        self.in_background = False
        """Whether the request lets the provider answer later, to another request."""
        self.owner: object | None = None
        """For whoever listens: where in the crew the exchange belongs."""

    response_model = _Fact[str | None]("response_model")
    response_id = _Fact[str | None]("response_id")
    usage = _Fact[TokenUsage]("usage")
    service_tier = _Fact[str | None]("service_tier")
    finish_reason = _Fact[str | None]("finish_reason")
    reported_cost_usd = _Fact[str | None]("reported_cost_usd")
    error_type = _Fact[str | None]("error_type")
    """HTTP status of a refusal, the answer's own name of its failure, or the exception's name."""

    @property
    def facts(self) -> ResponseFacts:
        """What the answer says. Reads the answer if that was put off."""
        facts = self._facts
        if facts is None:
            facts = self._facts = ResponseFacts(
                self.protocol,
                operation=self.operation,
                provider=self.provider,
                request_model=lambda: self.request_model,
            )
            if self._plain is not None:
                facts.take_plain(self._plain)
        if self._unread is not None:
            self._read()
        return facts

    def plain_answer(self) -> PlainAnswer | None:
        """Return what the answer says, read the short way.

        None where that is not possible, and `facts` is to be queried.
        """
        read = self._unread_plain
        self._unread_plain = None
        if read is not None and self._facts is None:
            self._plain = read(self)
            if self._plain is not None:
                self._unread = None
        return self._plain

    @property
    def request_model(self) -> str | None:
        """The model that the request names."""
        if self._request_body is not None:
            named = model_in_body(self._request_body())
            self._request_model = model_name(named or self._request_model)
            self._request_body = None
        return self._request_model

    def read_later(
        self,
        read: Callable[[HttpExchange], None],
        read_plain: Callable[[HttpExchange], PlainAnswer | None] | None = None,
    ) -> None:
        """Put off reading the answer until somebody wants it.

        ``read_plain`` is the short way for a plain answer. It gives None for any other.
        """
        self._unread = read
        self._unread_plain = read_plain

    def _read(self) -> None:
        read = self._unread
        self._unread = None
        self._unread_plain = None
        if read is None:
            return
        try:
            read(self)
        # The guard of this module, for an answer read late.
        except Exception as error:  # noqa: BLE001
            self.usage = replace(MISSING, flags=("body_not_read",))
            report_fault("read_later", error)

    def __repr__(self) -> str:
        """Return a line for logs and failing tests."""
        what = f"{self.operation} {self.request_model} at {self.provider}"
        return f"<HttpExchange {what} {self.status_code} {self.usage.status}>"


class HttpObserver:
    """Announces exchanges to those who listen.

    `active` turns false on uninstall, so that a wrapper that somebody else has wrapped meanwhile
    lets everything pass.
    """

    __slots__ = ("_background", "_closed", "_late", "_opened", "active")

    def __init__(
        self, *, opened: Callable[[HttpExchange], None], closed: Callable[[HttpExchange], None]
    ) -> None:
        self._opened = opened
        self._closed = closed
        self._late: deque[HttpExchange] = deque()
        self._background: dict[str, HttpExchange] = {}
        self.active = True

    def open(self, exchange: HttpExchange) -> None:
        """Announce a request about to be sent, in its caller's thread and context."""
        if self._late:
            self.announce_late()
        self._opened(exchange)

    def close(self, exchange: HttpExchange) -> None:
        """Announce the end of an exchange, once.

        One answered in the background stays open.
        """
        if exchange.done:
            return
        if exchange.in_background and self._waits(exchange):
            return
        exchange.ended_ns = time.time_ns()
        exchange.done = True
        self._closed(exchange)

    def close_late(self, exchange: HttpExchange) -> None:
        """Note an end found while garbage is collected, to be announced later.

        The collector runs anywhere, perhaps while somebody's lock is held.
        """
        if not exchange.done:
            _end(exchange)
            self._late.append(exchange)

    def announce_late(self) -> None:
        """Announce the ends that were noted while garbage was collected."""
        while self._late:
            try:
                exchange = self._late.popleft()
            except IndexError:  # another thread was faster
                return
            self._closed(exchange)

    def continued(self, path: str) -> HttpExchange | None:
        """Return the exchange whose answer in the background a GET of ``path`` fetches."""
        if not self._background:
            return None
        name = path.partition("?")[0].rstrip("/").rpartition("/")[2]
        return self._background.get(name)

    def give_up_background(self) -> None:
        """Announce the exchanges whose answers in the background nobody has fetched."""
        while self._background:
            try:
                _, exchange = self._background.popitem()
            except KeyError:  # another thread was faster
                return
            exchange.in_background = False
            self.close(exchange)

    def _waits(self, exchange: HttpExchange) -> bool:
        """Tell whether the answer is still to come, and remember the exchange by its id."""
        facts = exchange.facts
        name = facts.response_id
        if not facts.is_unfinished or name is None:
            if name is not None:
                self._background.pop(name, None)
            return False
        self._background[name] = exchange
        if len(self._background) > _MOST_BACKGROUND:
            oldest = self._background.pop(next(iter(self._background)))
            oldest.in_background = False
            self.close(oldest)
        return True


def _end(exchange: HttpExchange) -> None:
    exchange.ended_ns = time.time_ns()
    exchange.done = True
