"""The fake provider's record of billed and refused requests."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter.usage.token_usage import TokenUsage

__all__ = ["BilledExchange", "BillingLog", "Refused"]


@dataclass(frozen=True, slots=True)
class BilledExchange:
    """One exchange the provider charges for."""

    number: int
    """Position among all requests this server saw, from 1."""
    dialect: str
    """``openai.chat``, ``openai.responses``, ``anthropic``, ``gemini``, ``bedrock`` …"""
    provider: str
    operation: str
    request_model: str
    model: str
    """Model named in the response."""
    response_id: str | None
    """None where the protocol has no response id."""
    usage: TokenUsage
    tier: str | None
    streamed: bool
    delivered: bool
    """False where the connection was cut before the usage went out.

    The provider bills, the client can't know.
    """
    at_ns: int
    """When it was billed, nanoseconds since 1970."""
    reported_cost_usd: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """One request that was turned away (or dropped: status 0) and not billed."""

    number: int
    dialect: str
    model: str
    status: int
    at_ns: int


class BillingLog:
    """An append-only, thread-safe record of billed requests.

    Totals are in tokens. Readers compute money from the usage.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self.billed: list[BilledExchange] = []
        self.refused: list[Refused] = []

    def next_number(self) -> int:
        """Return a number for the request that just came in."""
        with self._lock:
            self._requests += 1
            return self._requests

    def bill(self, entry: BilledExchange) -> None:
        """Note an exchange that is charged for."""
        with self._lock:
            self.billed.append(entry)

    def refuse(self, entry: Refused) -> None:
        """Note a request that is not."""
        with self._lock:
            self.refused.append(entry)

    def clear(self) -> None:
        """Remove every record but keep counting request numbers."""
        with self._lock:
            self.billed.clear()
            self.refused.clear()

    @property
    def calls(self) -> int:
        """How many exchanges were billed."""
        return len(self.billed)

    @property
    def input_tokens(self) -> int:
        """All input tokens billed, cached ones included."""
        return sum(entry.usage.input or 0 for entry in self.billed)

    @property
    def output_tokens(self) -> int:
        """All output tokens billed, reasoning included."""
        return sum(entry.usage.output or 0 for entry in self.billed)
