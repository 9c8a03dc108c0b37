"""The current node: the OpenTelemetry context's, or the one a thread began with."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import ref

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context as Values
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import INVALID_SPAN, Span

from crewmeter import attribution
from crewmeter.spans.span import Anchor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crewmeter.spans.span import OpenSpan

__all__ = [
    "carry_into_threads",
    "current_values",
    "enter",
    "leave",
    "node_here",
    "outer_span",
    "raw_node",
]

_KEY = otel_context.create_key("crewmeter-node")
current_values: Callable[[], Values] = otel_context.get_current
"""What returns the current OpenTelemetry context."""
attach_values: Callable[[Values], object] = otel_context.attach
"""What makes a context the current one."""
_runtime = otel_context._RUNTIME_CONTEXT
_variable = getattr(_runtime, "_current_context", None)
if type(_runtime) is ContextVarsRuntimeContext and type(_variable) is ContextVar:
    # OpenTelemetry's own functions call each other, and are called six times a call. The runtime
    # context of a process is chosen once, at the import of OpenTelemetry (OTEL_PYTHON_CONTEXT): one
    # put in its private name later is not followed, and spans are roots there.
    current_values = _variable.get
    attach_values = _variable.set
_carried: ContextVar[OpenSpan | None] = ContextVar("crewmeter_carried_node", default=None)
"""The node from which this thread was started, or this function submitted to a pool."""
(_SPAN_KEY,) = trace.set_span_in_context(INVALID_SPAN, Values())
"""OpenTelemetry's own key of the current span, which has no public name."""
_POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
"""Modules of the functions that the threads of pools run."""
_POOL_METHODS = ("apply_async", "_map_async", "imap", "imap_unordered")
"""Methods of a `multiprocessing.pool.Pool` by which all others submit a function."""


def raw_node(context: Values | None = None) -> OpenSpan | None:
    """Return the node of a context, else the one carried here, even if it has ended.

    ``context`` is the current one, for a caller that has it already.
    """
    if context is None:
        context = current_values()
    anchor = context.get(_KEY)
    if anchor is not None and type(anchor) is Anchor:
        return anchor.node
    return _carried.get()


def outer_span(context: Values) -> Span | None:
    """Return the OpenTelemetry span that is current in ``context``."""
    span = context.get(_SPAN_KEY)
    # Asking an abstract class about None is not free.
    if span is None or not isinstance(span, Span):
        return None
    return span


def node_here() -> OpenSpan | None:
    """Return the innermost node still open in this context, or None."""
    return _open(raw_node())


def _open(node: OpenSpan | None) -> OpenSpan | None:
    while node is not None and node.ended_ns is not None:
        node = node.parent
    return node


def enter(node: OpenSpan, context: Values, lost: Callable[[str], None] | None = None) -> None:
    """Make ``node`` current here, where ``context`` is the current one.

    ``lost`` is called with its event id when every context that holds it is gone.
    """
    before = _pruned(context) if _KEY in context else context
    node.before = before
    anchor = Anchor(node)
    if lost is not None:
        event_id = node.event_id
        node.anchor = ref(
            anchor,
            lambda _: lost(event_id),
        )
    # What `set_value` and `set_span_in_context` do, with one copy of the context for both.
    attach_values(Values({**before, _KEY: anchor, _SPAN_KEY: node.otel_span}))


def leave(node: OpenSpan) -> list[OpenSpan]:
    """Go back to what was current before ``node``.

    Works by value: a start and its end may run in different contexts or threads, where a token's
    reset would fail. Where ``node`` is not current, nor encloses what is, nothing changes.

    Returns:
        The nodes still current inside it, innermost first.
    """
    anchor = current_values().get(_KEY)
    if not isinstance(anchor, Anchor):
        return []
    if anchor.node is node:
        if node.before is not None:
            attach_values(node.before)
        return []
    inside: list[OpenSpan] = []
    current: OpenSpan | None = anchor.node
    while current is not None and current is not node:
        inside.append(current)
        current = current.parent
    if current is None:
        return []
    if node.before is not None:
        attach_values(node.before)
    return inside


def _pruned(context: Values) -> Values:
    """Return ``context`` without the nodes that ended elsewhere.

    Otherwise a chain of finished spans would grow for ever.
    """
    while True:
        anchor = context.get(_KEY)
        if not isinstance(anchor, Anchor):
            return context
        node = anchor.node
        # Still open, or made in another context: what is current stays.
        if node.ended_ns is None or node.before is None:
            return context
        # The app has made a span of its own current inside ours. It must not be taken away.
        if trace.get_current_span(context) is not node.otel_span:
            return context
        context = node.before


def carry_into_threads() -> Callable[[], None]:
    """Carry the current node and account into threads and thread pools.

    A bare ``threading.Thread`` begins with an empty context, so calls made in it would belong to no
    run and nobody. Thread pools reuse their threads, so there both go with each submitted function.

    Returns:
        The function that undoes it.
    """
    start = threading.Thread.start
    submit: Any = ThreadPoolExecutor.submit
    undo_pools = _carry_into_thread_pools()

    @wraps(start)
    def carrying_start(self: threading.Thread) -> None:
        if _has_context(self) or _serves_all(self):
            undo_pools.extend(_carry_into_thread_pools())
            start(self)
            return
        restore = _carry_into(self)
        try:
            start(self)
        except BaseException:
            # It may be started again, on another account.
            restore()
            raise

    @wraps(submit)
    def carrying_submit(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        # A function run in a context of its own, as by CrewAI's bus, finds both there.
        if type(getattr(fn, "__self__", None)) is not Context:
            fn = _carrying(fn)
        return submit(self, fn, *args, **kwargs)

    threading.Thread.start = carrying_start  # type: ignore[method-assign]  # the purpose
    ThreadPoolExecutor.submit = carrying_submit  # type: ignore[assignment]  # as above

    def undo() -> None:
        for undo_one in undo_pools:
            undo_one()
        if threading.Thread.start is carrying_start:
            threading.Thread.start = start  # type: ignore[method-assign]
        # Where somebody has wrapped ours meanwhile, it stays and only passes on.
        if ThreadPoolExecutor.submit is carrying_submit:
            ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]

    return undo


def _carry_into_thread_pools() -> list[Callable[[], None]]:
    """Let each function given to a `multiprocessing.pool.ThreadPool` take both along.

    Only where the app has imported it: that alone takes longer than `instrument`.

    Returns:
        The functions that undo it, none where it has been done.
    """
    module = sys.modules.get("multiprocessing.pool")
    pool: Any = getattr(module, "ThreadPool", None)
    if pool is None:
        return []
    names = [name for name in _POOL_METHODS if name not in vars(pool) and hasattr(pool, name)]
    return [_carry_into_method(pool, name) for name in names]


def _carry_into_method(pool: Any, name: str) -> Callable[[], None]:
    method = getattr(pool, name)

    @wraps(method)
    def carrying(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return method(self, _carrying(func), *args, **kwargs)

    setattr(pool, name, carrying)

    def undo() -> None:
        if vars(pool).get(name) is carrying:
            delattr(pool, name)

    return undo


def _has_context(thread: threading.Thread) -> bool:
    """Whether a thread was given a context to run in, as Python 3.14 allows."""
    return type(getattr(thread, "_context", None)) is Context


def _serves_all(thread: threading.Thread) -> bool:
    """Whether a thread serves whoever comes, not who happened to start it.

    Threads of pools and event loops do.
    """
    target = getattr(thread, "_target", None)
    if getattr(target, "__module__", None) in _POOLS:
        return True
    return getattr(target, "__name__", None) == "run_forever"


def _carry_into(thread: threading.Thread) -> Callable[[], None]:
    """Let a thread's own context begin with the current node and account.

    Not the thread itself: a worker that runs each caller's work in the caller's context, such as
    AnyIO's, would else put that work on whoever came first.

    Returns:
        The function that undoes it.
    """
    own = vars(thread)
    before = own.get("run")
    run = thread.run
    carried = _carrying(run)

    def restore() -> None:
        if before is None:
            own.pop("run", None)
        else:
            own["run"] = before

    def carrying_run() -> None:
        # A thread that refers to itself would be freed late.
        restore()
        carried()

    if carried is not run:
        own["run"] = carrying_run
    return restore


def _carrying(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``fn`` on the current node and account, or itself where there are none."""
    node = node_here()
    account = attribution.current()
    if node is None and account is None:
        return fn
    return _Carried(fn, node, account)


class _Carried:
    """A function submitted to a pool, with the node and account it was submitted from."""

    __slots__ = ("_account", "_fn", "_node")

    def __init__(
        self,
        fn: Callable[..., Any],
        node: OpenSpan | None,
        account: Mapping[str, str] | None,
    ) -> None:
        self._fn = fn
        self._node = node
        self._account = account

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = _carried.set(self._node)
        try:
            if self._account is None:
                return self._fn(*args, **kwargs)
            with attribution.as_account(self._account):
                return self._fn(*args, **kwargs)
        finally:
            _carried.reset(token)
