"""The account of work that CrewAI starts later than it was requested.

A streaming ``kickoff`` runs as its output is read, an asynchronous one as it is awaited. Either may
happen after the ``attribute`` block in which it was requested, and belongs to that block all the
same. See crewAIInc/crewAI#4824: a web handler returns the stream and leaves the block.
"""

from __future__ import annotations

import inspect
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from crewmeter import attribution
from crewmeter.import_hook import when_imported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
_METHODS = ("kickoff_async", "akickoff", "kickoff_for_each_async", "akickoff_for_each")


def keep_accounts() -> Callable[[], None]:
    """Patch what CrewAI starts later, each class as soon as it is imported.

    Returns:
        The function that undoes it.
    """
    undo: list[Callable[[], None]] = []
    cancel = [
        when_imported(
            "crewai.types.streaming",
            lambda: _patch_outputs(undo),
        )
    ]
    for module, name in _ASYNC_KICKOFFS.items():
        cancel.append(
            when_imported(
                module,
                _patcher(module, name, undo),
            )
        )

    def restore() -> None:
        for stop_waiting in cancel:
            stop_waiting()
        while undo:
            undo.pop()()

    return restore


def _patch_outputs(undo: list[Callable[[], None]]) -> None:
    module = sys.modules["crewai.types.streaming"]
    for name in _OUTPUTS:
        output = getattr(module, name, None)
        if isinstance(output, type) and "__init__" in output.__dict__:
            undo.append(_replace(output, "__init__", _with_accounts))


def _patcher(module: str, name: str, undo: list[Callable[[], None]]) -> Callable[[], None]:
    def patch() -> None:
        owner = getattr(
            sys.modules[module],
            name,
            None,
        )
        if not isinstance(owner, type):
            return
        methods = [name for name in _METHODS if inspect.iscoroutinefunction(vars(owner).get(name))]
        undo.extend(_replace(owner, method, _started_later) for method in methods)

    return patch


def _replace(owner: type, name: str, wrap: Callable[[Any], Any]) -> Callable[[], None]:
    """Wrap a method of a class, and return the function that puts the original back."""
    original = owner.__dict__[name]
    wrapper = wrap(original)
    setattr(owner, name, wrapper)

    def restore() -> None:
        # Where somebody has wrapped ours meanwhile, it stays and only passes on.
        if owner.__dict__.get(name) is wrapper:
            setattr(owner, name, original)

    return restore


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


def _started_later(original: Any) -> Any:
    """Wrap a coroutine function, so that it runs on the account of its call."""

    async def run(account: Mapping[str, str] | None, args: Any, kwargs: Any) -> Any:
        with attribution.as_account(account):
            return await original(*args, **kwargs)

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run(attribution.current(), args, kwargs)

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(call)
    return call


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
