"""Budgets in the app: reserve before a model call, settle after it, refuse where a guard says so. Knows no CrewAI."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from crewmeter import attribution, semconv
from crewmeter.call import host_of
from crewmeter.current import node_here
from crewmeter.limits import RateLimit
from crewmeter.names import declared_provider, endpoint_of, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.node import Node

__all__ = ["Brake", "Guard"]

logger = logging.getLogger("crewmeter")


class Guard(Protocol):
    """What a budget guard offers; see `crewmeter.budget`. ``attributes`` are a span's, under semconv's names."""

    def reserve(self, attributes: Mapping[str, object], *, input_chars: int, max_output_tokens: int | None = None) -> Any:
        """A reservation, or a refusal: something with a ``budget`` and a ``reason``."""

    def settle(self, reservation: Any, attributes: Mapping[str, object] | None, *, duration_ns: int | None = None) -> None:
        """Replace a reservation by what the call cost; None for a call that was never made."""

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """Book a billed call nobody reserved for."""

    def close(self) -> None:
        """Give back what is reserved and stop."""


class Brake:
    """Asks the guard before each call and tells it after. What goes wrong in it lets the call through."""

    def __init__(self, guard: Guard, base_place: Mapping[str, object]) -> None:
        self._guard = guard
        self._base_place = base_place
        self._limit = RateLimit()
        self._waiting: ContextVar[object | None] = ContextVar("crewmeter_reservation", default=None)
        """Reserved before the call's started event, by the executor; the next call in this context takes it."""

    def refusal(self, llm: Any, messages: object) -> str | None:
        """Why the call about to be made may not be, or None. Called from CrewAI's hook, in the caller's context."""
        left_over = self._waiting.get()
        if left_over is not None:  # that call was never made
            self._waiting.set(None)
            self._guard.settle(left_over, None)
        node = node_here()
        attributes = self._attributes(llm, node)
        limit = getattr(llm, "max_tokens", None)
        outcome = self._guard.reserve(
            attributes, input_chars=_characters(messages), max_output_tokens=int(limit) if isinstance(limit, int | float) else None
        )
        reason = getattr(outcome, "reason", None)
        if reason is not None:
            said = f"crewmeter: budget {getattr(outcome, 'budget', '')}: {reason}"
            if self._limit.allows(monotonic()):
                logger.warning("%s; the call was not made", said)
            return said
        if node is not None and node.call is not None:
            node.call.reservation = outcome
        else:
            self._waiting.set(outcome)
        return None

    def call_started(self, node: Node) -> None:
        """Give a call that has just started what was reserved for it."""
        reservation = self._waiting.get()
        if reservation is not None and node.call is not None:
            self._waiting.set(None)
            node.call.reservation = reservation

    def seen(self, node: Node) -> None:
        """A finished span, on the export thread: settle its reservation, or book it as it is."""
        if node.call is None or node.readable is None:
            return
        attributes = dict(node.readable.attributes or {})
        duration_ns = (node.ended_ns or node.started_ns) - node.started_ns
        reservation, node.call.reservation = node.call.reservation, None
        if reservation is not None:
            self._guard.settle(reservation, attributes, duration_ns=duration_ns)
        else:
            self._guard.spend(attributes, duration_ns=duration_ns)

    def close(self) -> None:
        """Give back what is reserved."""
        self._guard.close()

    def _attributes(self, llm: Any, node: Node | None) -> dict[str, object]:
        place = node.place if node is not None else {**self._base_place, **(attribution.current() or {})}
        endpoint = endpoint_of(llm)
        named = {
            semconv.OPERATION: semconv.CHAT,
            semconv.REQUEST_MODEL: short(getattr(llm, "model", None)),
            semconv.PROVIDER: declared_provider(llm),
            semconv.SERVER_ADDRESS: host_of(endpoint)[0] if endpoint else None,
        }
        return {**place, **{name: value for name, value in named.items() if value is not None}}


def _characters(messages: object) -> int:
    """Length of the prompt, roughly, without building it."""
    if not isinstance(messages, list):
        return len(messages) if isinstance(messages, str) else 0
    return sum(len(str(message.get("content") or "")) for message in messages if isinstance(message, dict))
