"""The token counters of CrewAI's LLM objects, the last source of a call's usage.

They count tokens that neither an event nor an HTTP exchange has reported.
"""

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
"""Calls without usage that one counter remembers while calls overlap."""


@dataclass(slots=True)
class _CounterWindow:
    """One LLM object's counter over a stretch of time in which it had calls open."""

    source: weakref.ref[Any]
    before: Mapping[str, Any] | None = None
    """The counts when the stretch began, None where they cannot be read."""
    open_calls: int = 0
    overlapped: bool = False
    booked_input: int = 0
    booked_output: int = 0
    lacking: list[OpenSpan] | None = None
    """Calls of an overlapping stretch that have no usage of their own."""

    def begin(self, counts: Mapping[str, Any] | None) -> None:
        """Start a new stretch at ``counts``."""
        self.before = counts
        self.overlapped = counts is None
        self.booked_input = 0
        self.booked_output = 0
        self.lacking = None


class LlmCounters:
    """Counters of LLM objects, by weak reference, while they have calls open.

    A counter is per object, not per call: a difference is one call's own only if no other call of
    that object was open meanwhile. Where calls overlapped, what they are booked with is subtracted
    and the rest is one residual.
    """

    def __init__(self) -> None:
        self._windows: dict[int, _CounterWindow] = {}
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """Begin afresh in a forked child, where the parent's open calls never end."""
        self._lock = threading.Lock()
        self._windows = {}

    def started(self, source: object, call: ModelCall) -> None:
        """Note that a call of ``source`` begins, which has ``get_token_usage_summary``."""
        window = self._windows.get(id(source))
        if window is None or window.source() is not source:
            window = self._new_window(source)
            if window is None:
                return
        counts = None
        if window.open_calls == 0:
            counts = _read(source)
        with self._lock:
            if window.open_calls == 0:
                window.begin(counts)
            else:
                window.overlapped = True
            window.open_calls += 1
        call.counter_window = window

    def _new_window(self, source: object) -> _CounterWindow | None:
        if not hasattr(source, "get_token_usage_summary"):
            return None
        key = id(source)
        try:
            reference = weakref.ref(
                source,
                lambda _: self._windows.pop(key, None),
            )
        except TypeError:  # an LLM class with __slots__ and no weak references
            return None
        window = self._windows[key] = _CounterWindow(reference)
        return window

    def ended(self, node: OpenSpan, call: ModelCall) -> tuple[OpenSpan, TokenUsage] | None:
        """Note that a call is complete.

        It takes its own difference if it lacks usage.

        Returns:
            The residual of overlapping calls with the last call that lacks usage, else None.
        """
        window = call.counter_window
        call.counter_window = None
        if not isinstance(window, _CounterWindow):
            return None
        seen = True
        if not call.usage:
            seen = call.usage_seen()
        last: OpenSpan | None = None
        with self._lock:
            if window.open_calls > 0:
                window.open_calls -= 1
            overlapped = window.overlapped
            if overlapped and seen:
                _book(window, call)
            elif overlapped:
                waiting = (window.lacking or [])[-_MAX_WAITING:]
                window.lacking = [*waiting, node]
            if window.lacking and window.open_calls == 0:
                last = window.lacking[-1]
        if not overlapped:
            if not seen:
                call.reconciled = _difference(window)
            return None
        if last is None:
            return None
        residual = _difference(window)
        if residual is None:
            return None
        return (last, residual)


def _book(window: _CounterWindow, call: ModelCall) -> None:
    """Count what ``call`` is booked with as explained."""
    exchange = call.exchange
    if exchange is not None and exchange.usage.input is not None:
        usage = exchange.usage
    else:
        usage = read_usage(call.usage)
    window.booked_input += usage.input or 0
    window.booked_output += usage.output or 0


def _read(source: Any) -> dict[str, Any]:
    """Return the counts of an LLM object."""
    private = getattr(source, "__pydantic_private__", None)
    counts = private.get("_token_usage") if isinstance(private, dict) else None
    if isinstance(counts, dict):
        # The summary is made from these. Making it takes twenty times longer.
        return counts.copy()
    summary = source.get_token_usage_summary()
    return {field: getattr(summary, field, 0) for field in _FIELDS}


def _difference(window: _CounterWindow) -> TokenUsage | None:
    """Return what the counter gained beyond what is booked, None if nothing."""
    source = window.source()
    if source is None or window.before is None:
        return None
    now = _read(source)
    before = window.before
    gained = {field: int(now.get(field) or 0) - int(before.get(field) or 0) for field in _FIELDS}
    prompt = gained["prompt_tokens"] - window.booked_input
    completion = gained["completion_tokens"] - window.booked_output
    if prompt < 0 or completion < 0 or prompt + completion <= 0:
        return None
    cached = max(0, gained["cached_prompt_tokens"])
    written = max(0, gained["cache_creation_tokens"])
    if window.overlapped or cached + written > prompt:
        return TokenUsage(
            input=prompt, output=completion, status="reconciled", flags=("cached_not_reported",)
        )
    reasoning = max(0, gained["reasoning_tokens"])
    return TokenUsage(
        prompt,
        completion,
        cached,
        written,
        0,
        min(reasoning, completion),
        status="reconciled",
    )
