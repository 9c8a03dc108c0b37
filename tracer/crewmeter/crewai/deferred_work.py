"""The account of work that CrewAI starts later than it was requested.

A streaming ``kickoff`` runs as its output is read, an asynchronous one as it is awaited. Either may
happen after the ``attribute`` block in which it was requested, and belongs to that block all the
same. See crewAIInc/crewAI#4824: a web handler returns the stream and leaves the block.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from crewmeter import attribution
from crewmeter.http.deferred_requests import DeferredCall
from crewmeter.http.patching import replace
from crewmeter.import_hook import patch_when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["keep_accounts"]

_OUTPUTS = ("StreamingOutputBase", "StreamSessionBase")
"""Classes whose instances run a crew or flow as they are read."""
_ASYNC_KICKOFFS = {
    "crewai.crew": "Crew",
    "crewai.flow.runtime": "Flow",
    "crewai.flow.flow": "Flow",
    "crewai.agent.core": "Agent",
    "crewai.lite_agent": "LiteAgent",
}
"""Module → class whose asynchronous kickoffs start when they are awaited."""
_SUBCLASSED = "__init_subclass__"
_METHODS = ("kickoff_async", "akickoff", "kickoff_for_each_async", "akickoff_for_each")


def keep_accounts() -> Callable[[], None]:
    """Patch what CrewAI starts later, each class as soon as it is imported.

    Returns:
        The function that undoes it.
    """
    kickoffs = [(module, partial(_patch_kickoffs, module)) for module in _ASYNC_KICKOFFS]
    return patch_when_imported(
        [
            ("crewai.types.streaming", _patch_outputs),
            ("crewai.llms.base_llm", lambda: [_patch_models()]),
            *kickoffs,
        ]
    )


def _patch_outputs() -> Iterator[Callable[[], None]]:
    module = sys.modules["crewai.types.streaming"]
    for name in _OUTPUTS:
        output = getattr(module, name, None)
        if isinstance(output, type) and "__init__" in output.__dict__:
            yield replace(output, "__init__", _with_accounts)


def _patch_kickoffs(module: str) -> Iterator[Callable[[], None]]:
    owner = getattr(sys.modules[module], _ASYNC_KICKOFFS[module], None)
    if not isinstance(owner, type):
        return
    methods = [name for name in _METHODS if inspect.iscoroutinefunction(vars(owner).get(name))]
    for method in methods:
        yield replace(owner, method, DeferredCall)


def _patch_models() -> Callable[[], None]:
    """Wrap ``acall`` of every kind of model, also of those to come."""
    base: Any = getattr(sys.modules["crewai.llms.base_llm"], "BaseLLM", None)
    if not isinstance(base, type):
        return lambda: None
    # Weak, since an app may make classes that it drops again.
    wrappers: WeakSet[DeferredCall] = WeakSet()
    before = vars(base).get(_SUBCLASSED)

    def wrap_own(model: Any) -> None:
        own = vars(model).get("acall")
        if inspect.iscoroutinefunction(own) and not isinstance(own, DeferredCall):
            model.acall = DeferredCall(own)
            wrappers.add(model.acall)

    def init_subclass(model: Any, /, **kwargs: Any) -> None:
        if before is None:
            super(base, model).__init_subclass__(**kwargs)  # type: ignore[arg-type]  # is a class
        else:
            before.__get__(None, model)(**kwargs)
        wrap_own(model)

    hook: Any = classmethod(init_subclass)
    setattr(base, _SUBCLASSED, hook)
    for model in _descendants(base):
        wrap_own(model)

    def restore() -> None:
        if vars(base).get(_SUBCLASSED) is hook:
            if before is None:
                delattr(base, _SUBCLASSED)
            else:
                setattr(base, _SUBCLASSED, before)
        for model in _descendants(base):
            own = vars(model).get("acall")
            if isinstance(own, DeferredCall) and own in wrappers:
                model.acall = own.__wrapped__

    return restore


def _descendants(kind: Any) -> Iterator[Any]:
    """Yield the subclasses of a class, at every depth."""
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _descendants(subclass)


def _with_accounts(original: Any) -> Any:
    """Wrap the ``__init__`` of a streaming output, whose iterators run the crew."""

    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if getattr(self, "_sync_iterator", None) is not None:
            self._sync_iterator = _AccountIterator(self._sync_iterator)
        if getattr(self, "_async_iterator", None) is not None:
            self._async_iterator = _AsyncAccountIterator(self._async_iterator)

    return init


class _AccountIterator:
    """An iterator whose steps run on the account current when it was made."""

    __slots__ = ("_account", "_iterator")

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self._account = attribution.current()

    def __iter__(self) -> _AccountIterator:
        return self

    def __next__(self) -> Any:
        with attribution.as_account(self._account):
            return next(self._iterator)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


class _AsyncAccountIterator:
    """The same for an asynchronous iterator."""

    __slots__ = ("_account", "_iterator")

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self._account = attribution.current()

    def __aiter__(self) -> _AsyncAccountIterator:
        return self

    async def __anext__(self) -> Any:
        with attribution.as_account(self._account):
            return await anext(self._iterator)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)
