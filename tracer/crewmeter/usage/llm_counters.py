"""CrewAI's counters as the last witness: tokens that an LLM object counted and neither event nor exchange reported."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.token_usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.spans.model_call import ModelCall
    from crewmeter.spans.span import OpenSpan

__all__ = ["LlmCounters"]

_FIELDS = (
    "prompt_tokens",
    "completion_tokens",
    "cached_prompt_tokens",
    "cache_creation_tokens",
    "reasoning_tokens",
)
_MAX_WAITING = 64


@dataclass(slots=True)
class _CounterWindow:
    """One LLM object's counter over a stretch of time in which it had calls open."""

    source: weakref.ref[Any]
    before: Mapping[str, Any] | None = None
    """What it counted when they began; None where it would not say."""
    open_calls: int = 0
    overlapped: bool = False
    booked_input: int = 0
    booked_output: int = 0
    lacking: list[OpenSpan] | None = None


class LlmCounters:
    """Watches LLM objects, by weak reference, while they have calls open.

    The counter is per object, not per call: a difference is one call's own only if no other call of that object was open
    meanwhile. Where calls overlapped, what they are booked with is subtracted and the rest is one residual.
    """

    def __init__(self) -> None:
        self._witnesses: dict[int, _CounterWindow] = {}
        self._lock = threading.Lock()

    def started(self, source: object, call: ModelCall) -> None:
        """A call of ``source`` (anything with ``get_token_usage_summary``) begins."""
        if not hasattr(source, "get_token_usage_summary"):
            return
        key = id(source)
        counter_window = self._witnesses.get(key)
        if counter_window is None or counter_window.source() is not source:
            try:
                counter_window = _CounterWindow(
                    weakref.ref(source, lambda _: self._witnesses.pop(key, None))
                )
            except TypeError:  # an LLM class with __slots__ and no weak references: no witness then
                return
            self._witnesses[key] = counter_window
        counted = _read(source) if counter_window.open_calls == 0 else None
        with self._lock:
            if counter_window.open_calls == 0:
                counter_window.before = counted
                counter_window.overlapped = counted is None
                counter_window.booked_input = counter_window.booked_output = 0
                counter_window.lacking = None
            else:
                counter_window.overlapped = True
            counter_window.open_calls += 1
        call.counter_window = counter_window

    def ended(self, node: OpenSpan, call: ModelCall) -> tuple[OpenSpan, TokenUsage] | None:
        """A call is settled. It takes its own difference if it lacks usage; a residual of overlapping calls is returned."""
        counter_window, call.counter_window = call.counter_window, None
        if not isinstance(counter_window, _CounterWindow):
            return None
        seen = call.usage_seen()
        with self._lock:
            counter_window.open_calls = max(0, counter_window.open_calls - 1)
            overlapped = counter_window.overlapped
            if overlapped:
                if seen:
                    _book(counter_window, call)
                else:
                    counter_window.lacking = [*(counter_window.lacking or [])[-_MAX_WAITING:], node]
            last = (
                counter_window.lacking[-1]
                if counter_window.lacking and counter_window.open_calls == 0
                else None
            )
        if not overlapped:
            if not seen:
                call.reconciled = _difference(counter_window)
            return None
        left = (
            _difference(counter_window)
            if last is not None and counter_window.before is not None
            else None
        )
        return (last, left) if last is not None and left is not None else None


def _book(counter_window: _CounterWindow, call: ModelCall) -> None:
    """Count what `call` is booked with as explained."""
    exchange = call.exchange
    usage = (
        exchange.usage
        if exchange is not None and exchange.usage.input is not None
        else read_usage(call.usage)
    )
    counter_window.booked_input += usage.input or 0
    counter_window.booked_output += usage.output or 0


def _read(source: Any) -> dict[str, Any]:
    private = getattr(source, "__pydantic_private__", None)
    counts = private.get("_token_usage") if isinstance(private, dict) else None
    if isinstance(
        counts, dict
    ):  # what the summary is made from: twenty times faster than making it
        return counts.copy()
    summary = source.get_token_usage_summary()
    return {field: getattr(summary, field, 0) for field in _FIELDS}


def _difference(counter_window: _CounterWindow) -> TokenUsage | None:
    """What the counter gained beyond what is booked, or None if nothing."""
    source = counter_window.source()
    if source is None or counter_window.before is None:
        return None
    now, before = _read(source), counter_window.before
    gained = [int(now.get(field) or 0) - int(before.get(field) or 0) for field in _FIELDS]
    prompt, completion = (
        gained[0] - counter_window.booked_input,
        gained[1] - counter_window.booked_output,
    )
    if prompt < 0 or completion < 0 or prompt + completion <= 0:
        return None
    if counter_window.overlapped:
        return TokenUsage(
            input=prompt, output=completion, status="reconciled", flags=("cached_not_reported",)
        )
    cached, written, reasoning = (max(0, value) for value in gained[2:])
    if cached + written > prompt:
        return TokenUsage(
            input=prompt, output=completion, status="reconciled", flags=("cached_not_reported",)
        )
    return TokenUsage(
        prompt, completion, cached, written, 0, min(reasoning, completion), status="reconciled"
    )
