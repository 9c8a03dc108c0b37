"""Which node is current: in the OpenTelemetry context of the caller, or carried into a thread that started without one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import ref

from opentelemetry import context as otel_context
from opentelemetry import trace

from crewmeter.spans.span import Anchor

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context as Values

    from crewmeter.spans.span import OpenSpan

__all__ = ["carry_into_threads", "enter", "leave", "node_here", "raw_node"]

_KEY = otel_context.create_key("crewmeter-node")
_CARRIED = "_crewmeter_node"


def raw_node() -> OpenSpan | None:
    """The node this context (else this thread) was given, even if it has ended since."""
    anchor = otel_context.get_current().get(_KEY)
    return anchor.node if isinstance(anchor, Anchor) else _carried_node()


def _carried_node() -> OpenSpan | None:
    carried: OpenSpan | None = getattr(threading.current_thread(), _CARRIED, None)
    return carried


def node_here() -> OpenSpan | None:
    """The innermost node still open in this context, or None."""
    return _open(raw_node())


def _open(node: OpenSpan | None) -> OpenSpan | None:
    while node is not None and node.ended_ns is not None:
        node = node.parent
    return node


def enter(node: OpenSpan, lost: Callable[[str], None] | None = None) -> None:
    """Make ``node`` current here. ``lost`` is called with its event id when every context knowing it is gone."""
    before = _pruned(otel_context.get_current())
    node.before = before
    anchor = Anchor(node)
    if lost is not None:
        event_id = node.event_id
        node.anchor = ref(anchor, lambda _: lost(event_id))
    otel_context.attach(
        trace.set_span_in_context(node.otel_span, otel_context.set_value(_KEY, anchor, before))
    )


def leave(node: OpenSpan) -> list[OpenSpan]:
    """Go back to what was current before ``node``; returns the nodes still current inside it, innermost first.

    Works by value: a start and its end may run in different contexts or threads, where a token's reset would fail. Where
    ``node`` is not current (nor encloses what is) nothing changes.
    """
    anchor = otel_context.get_current().get(_KEY)
    if not isinstance(anchor, Anchor):
        return []
    inside: list[OpenSpan] = []
    current: OpenSpan | None = anchor.node
    while current is not None and current is not node:
        inside.append(current)
        current = current.parent
    if current is None:
        return []
    if node.before is not None:
        otel_context.attach(node.before)
    return inside


def _pruned(context: Values) -> Values:
    """``context`` without nodes that ended elsewhere, lest a chain of finished spans grows for ever."""
    while True:
        anchor = context.get(_KEY)
        if (
            not isinstance(anchor, Anchor)
            or anchor.node.ended_ns is None
            or anchor.node.before is None
        ):
            return context
        if trace.get_current_span(context) is not anchor.node.otel_span:
            return context
        context = anchor.node.before


def carry_into_threads() -> Callable[[], None]:
    """Let threads and thread pools used inside a run know which node started them; returns what undoes it.

    A bare ``threading.Thread`` begins with an empty context, so calls made in it would belong to no run. Thread pools keep
    their threads, so there the node goes with each submitted function, not with the thread.
    """
    start = threading.Thread.start
    submit: Any = ThreadPoolExecutor.submit

    @wraps(start)
    def carrying_start(self: threading.Thread) -> None:
        node = node_here()
        if (
            node is not None
            and getattr(getattr(self, "_target", None), "__module__", None)
            != "concurrent.futures.thread"
        ):
            setattr(self, _CARRIED, node)
        start(self)

    @wraps(submit)
    def carrying_submit(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        # CrewAI's bus submits twice a call, and a function run in a context of its own finds its node there.
        node = _open(
            _carried_node() if type(getattr(fn, "__self__", None)) is Context else raw_node()
        )
        return (
            submit(self, fn, *args, **kwargs)
            if node is None
            else submit(self, _Carried(fn, node), *args, **kwargs)
        )

    threading.Thread.start = carrying_start  # type: ignore[method-assign]  # the point of this function
    ThreadPoolExecutor.submit = carrying_submit  # type: ignore[assignment]  # as above

    def undo() -> None:
        if threading.Thread.start is carrying_start:
            threading.Thread.start = start  # type: ignore[method-assign]
        if (
            ThreadPoolExecutor.submit is carrying_submit
        ):  # else somebody wrapped ours, which now only passes on
            ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]

    return undo


class _Carried:
    """A function submitted to a pool, with the node it was submitted from."""

    __slots__ = ("_fn", "_node")

    def __init__(self, fn: Callable[..., Any], node: OpenSpan) -> None:
        self._fn = fn
        self._node = node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        thread = threading.current_thread()
        previous = getattr(thread, _CARRIED, None)
        setattr(thread, _CARRIED, self._node)
        try:
            return self._fn(*args, **kwargs)
        finally:
            setattr(thread, _CARRIED, previous)
